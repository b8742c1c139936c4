"""Promotion: versions of a dataset's classifier are judged by the policy, and the best get champion and challenger."""

import argparse
import getpass
import logging
from dataclasses import dataclass
from datetime import UTC, datetime

from flows.approval import ask_human
from flows.artifacts import show_markdown, show_table
from flows.command import run_main
from flows.layout import PROMOTIONS
from flows.revisions import git
from flows.runner import Step, stage
from pipeline.errors import RefusalError, StudyError
from pipeline.params import load_params
from pipeline.promotion.change import CHAMPION, Approval, Proposal, Signature, signed
from pipeline.promotion.judging import Policy
from pipeline.promotion.moving import finish_last_move, make_move
from pipeline.promotion.planning import Request
from pipeline.promotion.proposing import propose_promotion, propose_rollback
from pipeline.promotion.rendering import approval_page, condition_rows, proposal_page, title

log = logging.getLogger("flows")

finish_step = Step(finish_last_move)
propose_step = Step(propose_promotion)
propose_rollback_step = Step(propose_rollback)
move_step = Step(make_move)


@dataclass(frozen=True)
class Options:
    """What is asked, of whom, and how it is told."""

    alias: str = CHAMPION
    version: str | None = None  # None: the best that passes
    rollback: bool = False
    dry_run: bool = False
    approve: bool = False
    by: str = ""
    why: str = ""
    json: bool = False

    def __post_init__(self) -> None:
        if self.rollback and (self.version or self.alias != CHAMPION):
            raise StudyError("--rollback: moves champion and challenger back together; leave out --version and --alias")


@stage("promote {dataset}")
def promote(dataset: str, options: Options) -> None:
    """Judge all versions of a dataset's classifier and give the best its alias.

    Raises:
        RefusalError: no version passes, or a human says no; nothing was moved.
    """
    request = Request(options.alias, options.version)
    if not options.dry_run:
        finish_step(PROMOTIONS, dataset)
    if options.rollback:
        proposal = propose_rollback_step(PROMOTIONS, dataset)
    else:
        proposal = propose_step(PROMOTIONS, policy_of(dataset), request)
    show(proposal, options.json)
    if proposal.refusal:
        raise RefusalError(proposal.refusal)
    if proposal.settled:
        log.info("%s: the aliases are there already; nothing changes", proposal.model_name)
    elif options.dry_run:
        log.info("%s: a dry run, nothing was moved", title(proposal))
    else:
        move_step(PROMOTIONS, signed(proposal, signature_of(proposal, options)))
        log.info("%s: done, see %s", title(proposal), PROMOTIONS)


def policy_of(dataset: str) -> Policy:
    params = load_params()
    return Policy(dataset, params.promotion, params.study.seed)


def show(proposal: Proposal, as_json: bool) -> None:
    """On the flow run's page and on stdout."""
    page = proposal_page(proposal)
    if proposal.decision:
        show_table(f"conditions-{proposal.dataset}", condition_rows(proposal.decision), "Conditions")
    show_markdown(f"decision-{proposal.dataset}", page, title(proposal))
    print(proposal.model_dump_json(indent=2) if as_json else page)


def signature_of(proposal: Proposal, options: Options) -> Signature:
    """Of the approver where one is waited for, else of who gave the command."""
    by, why = options.by or commit_author() or getpass.getuser(), options.why
    if options.approve:
        approval = ask_human(approval_page(proposal), Approval(why=why))
        refuse_unapproved(title(proposal), approval)
        by, why = approval.by, approval.why
    return Signature(by=by, at=datetime.now(UTC).isoformat(timespec="seconds"), why=why)


def refuse_unapproved(what: str, approval: Approval) -> None:
    """
    Raises:
        RefusalError: the human said no, or gave no name.
    """
    if not approval.approve:
        raise RefusalError(f"{what}: rejected by {approval.by or 'nobody named'}; nothing was moved")
    if not approval.by.strip():
        raise RefusalError(f"{what}: approved without a name; nothing was moved, run again and give one")


def commit_author() -> str:
    """`name <email>` as git has them; empty where it does not."""
    name, email = (git("config", key).strip() for key in ("user.name", "user.email"))
    return f"{name} <{email}>" if name and email else name


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m flows.promote", description=(promote.function.__doc__ or "").splitlines()[0]
    )
    found.add_argument("--dataset", required=True, choices=tuple(load_params().datasets))
    found.add_argument("--version", help="only this one, which must pass; default: the best that passes")
    found.add_argument("--alias", default=CHAMPION, help="champion (default), challenger or one of your own")
    found.add_argument("--rollback", action="store_true", help="back to the champion before; judges nothing")
    found.add_argument("--dry-run", action="store_true", help="decide and show, but move nothing")
    found.add_argument("--approve", action="store_true", help="wait for a human's word on the run's page in Prefect")
    found.add_argument("--by", default="", help="who decides; default: git's user, else the system's")
    found.add_argument("--why", default="", help="a reason for the log")
    found.add_argument("--json", action="store_true", help="the decision as JSON on stdout, and nothing else there")
    return found


def command() -> None:
    given = vars(parser().parse_args())
    promote(given.pop("dataset"), Options(**given))


if __name__ == "__main__":
    run_main(command)

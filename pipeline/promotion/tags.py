"""What the tags of versions tell of their aliases: who gave them, when and why, as the promotion log has it."""

from collections.abc import Iterator, Mapping, Sequence

from pipeline.promotion.change import CHALLENGER, CHAMPION, Move, checkpoint_at
from pipeline.promotion.log import giver_of, wanted_aliases

NO_ALIAS = "none"
TAG_LENGTH = 5000  # that MLflow's stores hold; the log and the artifacts have all
ALIAS = "promotion.alias"

Tags = Mapping[str, str]


def version_tags(move: Move, alias: str) -> Tags:
    """Of the version that the move gave the alias."""
    start, end = move.before.get(alias), move.after.get(alias)
    told = {
        "alias": alias,
        "action": move.action,
        "from": start.version if start else NO_ALIAS,
        "to": end.version if end else NO_ALIAS,
        "by": move.by,
        "at": move.at,
        "why": move.why,
        "log_sha256": move.sha256,
    }
    return {f"promotion.{name}": value[:TAG_LENGTH] for name, value in told.items()}


def tags_by_checkpoint(moves: Sequence[Move], model_name: str) -> dict[str, Tags]:
    """Of every version that has an alias or lost its last; one that has several tells of the first in `by_rank`."""
    wanted = by_rank(wanted_aliases(moves, model_name))
    own = [move for move in moves if move.model_name == model_name]
    lost = {checkpoint: tags for move in own for checkpoint, tags in _lost(move) if checkpoint not in wanted.values()}
    given = {
        checkpoint: version_tags(move, alias)
        for alias, checkpoint in reversed(wanted.items())
        if (move := giver_of(own, alias, checkpoint))
    }
    return lost | given


def by_rank(aliases: Mapping[str, str]) -> dict[str, str]:
    """Champion, challenger, then the others by name."""
    first = [alias for alias in (CHAMPION, CHALLENGER) if alias in aliases]
    return {alias: aliases[alias] for alias in dict.fromkeys([*first, *sorted(aliases)])}


def _lost(move: Move) -> Iterator[tuple[str, Tags]]:
    """By checkpoint, the tags of versions that the move took an alias from."""
    for alias in reversed(move.moved_aliases):
        checkpoint = checkpoint_at(move.before, alias)
        if checkpoint and checkpoint != checkpoint_at(move.after, alias):
            yield checkpoint, {**version_tags(move, alias), ALIAS: NO_ALIAS}

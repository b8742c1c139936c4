"""What versions tell of their aliases is replayed from the log: who gave each, from where to where."""

from pipeline.promotion.tags import by_rank, tags_by_checkpoint
from tests.promotion.test_log import FIRST, NAME, SECOND, holder, move


def told(*moves):
    """By version: alias, from, to, by."""
    tags = tags_by_checkpoint(moves, NAME)
    names = ("alias", "from", "to", "by")
    return {
        checkpoint.removeprefix("sha of "): tuple(each[f"promotion.{name}"] for name in names)
        for checkpoint, each in tags.items()
    }


def by(name, each):
    return each.model_copy(update={"by": name})


def a_shadow(version):
    """With champion and challenger as SECOND leaves them."""
    ends = [{**SECOND.after, "shadow": each} for each in (None, holder(version))]
    return SECOND.model_copy(update={"alias": "shadow", "before": ends[0], "after": ends[1], "by": "Sam"})


def test_each_tells_of_the_move_that_gave_it_its_own_alias():
    assert told(by("Ada", FIRST), by("Bob", SECOND)) == {
        "2": ("champion", "1", "2", "Bob"), "1": ("challenger", "none", "1", "Bob"),
    }  # fmt: skip


def test_a_move_of_another_alias_changes_nothing_of_the_champions():
    found = told(FIRST, by("Bob", SECOND), a_shadow("7"))
    assert found["2"] == ("champion", "1", "2", "Bob")
    assert found["7"] == ("shadow", "none", "7", "Sam")


def test_of_several_aliases_it_tells_of_champion_before_any_of_ones_own():
    assert told(FIRST, by("Bob", SECOND), a_shadow("2"))["2"] == ("champion", "1", "2", "Bob")


def test_one_that_lost_its_last_alias_tells_so_and_to_whom():
    assert told(FIRST, by("Bob", move("1-", "2-")))["1"] == ("none", "1", "2", "Bob")


def test_a_champion_that_was_set_by_hand_and_only_mentioned_tells_of_nobody():
    mentioned = move("5-", "51", alias="challenger")
    assert told(mentioned) == {"1": ("challenger", "none", "1", "Ada")}


def test_other_models_are_not_told_of():
    assert told(move("--", "1-", name="other")) == {}


def test_champion_comes_first_then_challenger_then_the_others_by_name():
    assert list(by_rank(dict.fromkeys(["b", "challenger", "a", "champion"], "1"))) == [
        "champion",
        "challenger",
        "a",
        "b",
    ]

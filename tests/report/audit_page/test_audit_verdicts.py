"""The first lines of an audit: what is in order, what is worth a look, and what must not be."""

from typing import get_args

import pandas as pd

from pipeline.data.preparing.file_tables import EQUAL
from pipeline.data.preparing.likeness import LinkMethod
from pipeline.records import Audit
from pipeline.report.audit_page.likeness import METHODS, near_train, picture_groups
from pipeline.report.audit_page.reading import read_audited_set
from tests.report.audit_page.world import Page, World, split_anew


def test_the_verdicts_are_those_counted_by_hand(world: World) -> None:
    assert world.found() == {
        "test images with a near-copy in train": ("fine", "0"),
        "groups that stand in two splits": ("fine", "0 of 12 groups"),
        "classes in every split": ("fine", "all 3 of them"),
        "patients": ("look", "no patient ids: the split cannot be patient-disjoint"),
        "split": ("note", "made by the study: by class, and what belongs together on one side"),
        "images under two labels": ("look", "1 picture in 2 files, dropped under each"),
        "look-alikes under two labels": ("fine", "0"),
        "unreadable images": ("look", "1 of 17: top/benign/zero.png"),
        "images with a refused mask": ("look", "1, taken for images without a mask"),
        "images without a mask": ("look", "2 of 13"),
        "odd masks": (
            "look",
            "1 empty where a lesion is expected; 1 covering nearly all of the image; "
            "1 outlining a lesion where none is expected",
        ),
        "burnt in marks by class": (
            "fine",
            "no more uneven than by chance; plain: from 0 % of malignant to 40 % of benign",
        ),
        "kind of pixels by class": (
            "fine",
            "no more uneven than by chance; L: from 0 % of malignant to 40 % of benign",
        ),
    }


def test_each_verdict_stands_on_the_page_with_a_sign_that_is_a_word(world: World) -> None:
    page = world.page()
    assert "✓ fine test images with a near-copy in train: 0" in page.sections["verdicts"]
    assert "! look images under two labels: 1 picture in 2 files, dropped under each" in page.sections["verdicts"]
    assert "– note split: made by the study" in page.sections["verdicts"]


def test_a_split_that_leaks_is_a_fault_whatever_the_record_says(own_world: World) -> None:
    split_anew(own_world, {"near a.png": "train", "near b.png": "test"})
    assert Audit.read(own_world.prepared).test_images_near_train == 0
    found = own_world.found()
    assert found["test images with a near-copy in train"] == (
        "fault",
        "1: top/benign/near b.png; scores of this test split say too much",
    )
    assert found["groups that stand in two splits"] == ("fault", "1 of 12 groups")
    assert "✗ fault test images with a near-copy in train: 1" in Page(own_world.text()).sections["verdicts"]


def test_a_leak_is_found_along_a_chain_of_links(own_world: World) -> None:
    files = ["top/normal/normal (0).png", "top/normal/normal (1).png", "top/normal/normal (2).png"]
    links = pd.DataFrame({"first": files[:2], "second": files[1:], "method": "overlap", "value": 0.99})
    links.to_csv(own_world.prepared / "links.csv", index=False)
    split_anew(own_world, {"normal (0).png": "train", "normal (1).png": "validation", "normal (2).png": "test"})
    leaking = near_train(picture_groups(read_audited_set(own_world.raw, own_world.prepared)))
    assert leaking == files[2:]


def test_images_of_one_patient_are_no_copies_of_each_other(own_world: World) -> None:
    links = pd.DataFrame(
        {"first": ["top/normal/normal (0).png"], "second": ["top/normal/normal (1).png"], "method": "given_group"}
    )
    links.assign(value=0).to_csv(own_world.prepared / "links.csv", index=False)
    assert picture_groups(read_audited_set(own_world.raw, own_world.prepared)) == []


def test_every_method_that_links_images_is_told() -> None:
    assert set(METHODS) == {EQUAL, *get_args(LinkMethod)}


def test_look_alikes_under_two_labels_come_first(own_world: World) -> None:
    pair = {"first": ["top/benign/near a.png"], "second": ["top/normal/normal (3).png"], "method": "overlap"}
    links = pd.read_csv(own_world.prepared / "links.csv")
    pd.concat([links, pd.DataFrame(pair).assign(value=0.987)]).to_csv(own_world.prepared / "links.csv", index=False)
    assert own_world.found()["look-alikes under two labels"] == ("look", "1 group, 3 images, kept and flagged")
    groups = Page(own_world.text()).sections["groups"]
    linked = "1 and 2: 0 of 64 bits differ; 1 and 3: cuts of one field (correlation 0.987)"
    assert groups.index(linked) < groups.index("equal pixels")
    assert groups.count("! two labels") == 1


def test_a_class_that_a_split_lacks_is_a_fault(own_world: World) -> None:
    path = own_world.prepared / "index.csv"
    index = pd.read_csv(path)
    index.loc[(index["class"] == "normal") & (index["split"] == "test"), "split"] = "train"
    index.to_csv(path, index=False)
    assert own_world.found()["classes in every split"] == ("fault", "test lacks normal")


def test_groups_and_splits_that_the_set_gives_are_told(own_world: World) -> None:
    path = own_world.prepared / "audit.json"
    text = path.read_text().replace('"table": ""', '"table": "visits.csv"').replace('"groups": ""', '"groups": "woman"')
    text = text.replace('"given_groups": 0', '"given_groups": 9').replace(
        '"given_splits": false', '"given_splits": true'
    )
    path.write_text(text)
    found = own_world.found()
    assert found["patients, or what else must not be torn apart"] == ("fine", "9 values of woman in the set's table")
    assert found["split"] == ("note", "given by visits.csv")
    assert "groups of the set's own table equal woman 0 0" in Page(own_world.text()).sections["duplicates"]

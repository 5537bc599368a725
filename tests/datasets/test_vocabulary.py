"""Classes: complete for ImageNet and Fashion-MNIST, and from any list a user gives."""

from pathlib import Path

import pytest

from syn_ray.core.errors import UserError
from syn_ray.datasets.make_hypernyms import read_nouns
from syn_ray.datasets.vocabulary import (
    FASHION_WNIDS,
    ClassInfo,
    class_infos,
    class_names,
    duplicate_names,
    imagenet_subset,
    read_classes,
)
from syn_ray.datasets.wordnet import find_synset, timm_table

DATA_NOUN = Path("/usr/share/wordnet/data.noun")
FULL = {"name": "zebra", "description": "striped horse", "synonyms": ["Equus zebra"], "hypernyms": ["equine", "equid"]}


def test_imagenet_is_complete():
    infos = class_infos("imagenet")
    assert len(infos) == len({info.wnid for info in infos}) == 1000
    assert [info.wnid for info in infos] == sorted(
        info.wnid or "" for info in infos
    )  # labels follow sorted directories
    assert all(info.gloss and info.relatives for info in infos)
    tench = infos[0]
    assert (tench.name, tench.wnid) == ("tench", "n01440764")
    assert tench.relatives == ("tench", "Tinca tinca", "cyprinid", "cyprinid fish")
    assert duplicate_names("imagenet") == {"missile": [657, 744], "sunglasses": [836, 837]}


def test_the_masks_of_a_and_r():
    for name, known in (("a", (6, 11, 13)), ("r", (1, 2, 4))):
        labels = imagenet_subset(name)
        assert len(labels) == len(set(labels)) == 200
        assert labels[:3] == known
        assert max(labels) < 1000


def test_fashion_has_a_synset_of_each_class():
    names = class_names("fashion")
    assert len(FASHION_WNIDS) == len(names) == 10
    for info in class_infos("fashion"):
        last_word = info.name.split()[-1]
        assert any(last_word in lemma.lower() for lemma in info.relatives or ())
        assert info.gloss


@pytest.mark.skipif(not DATA_NOUN.exists(), reason="WordNet 3.0 is not installed (apt-get install wordnet-base)")
def test_shipped_and_timms_tables_are_wordnets():
    nouns = read_nouns(DATA_NOUN)
    for wnid in timm_table("imagenet_synset_to_lemma.txt"):
        synset = find_synset(wnid)
        lemmas, above = nouns[wnid]
        assert synset is not None
        assert list(synset.lemmas) == lemmas
        assert list(synset.hypernyms) == list(dict.fromkeys(lemma for parent in above for lemma in nouns[parent][0]))


def test_a_list_is_read_from_yaml_and_csv_and_inline(tmp_path):
    (tmp_path / "a.yaml").write_text(
        "- horse\n- {name: zebra, description: striped horse, synonyms: [Equus zebra], hypernyms: [equine, equid]}\n"
        "- {name: tench, wnid: n01440764}\n"
    )
    (tmp_path / "a.csv").write_text(
        "name,wnid,description,synonyms,hypernyms\nhorse,,,,\nzebra,,striped horse,Equus zebra,equine; equid\n"
        "tench,n01440764,,,\n"
    )
    inline = read_classes(["horse", FULL, {"name": "tench", "wnid": "n01440764"}])
    assert read_classes(str(tmp_path / "a.yaml")) == read_classes(str(tmp_path / "a.csv")) == inline
    horse, zebra, tench = class_infos(inline)
    assert inline[0] == "horse" == horse.name
    assert (zebra.gloss, zebra.relatives) == ("striped horse", ("Equus zebra", "equine", "equid"))
    assert tench.gloss == class_infos("imagenet")[0].gloss
    assert horse.gloss is None is horse.relatives
    assert read_classes([{"name": "horse"}]) == ("horse",)  # one way to write it, one fingerprint


def test_what_is_given_goes_before_what_wordnet_says():
    info = ClassInfo(name="tench", wnid="n01440764", description="a fish", hypernyms=("fish",))
    assert (info.gloss, info.relatives) == ("a fish", ("tench", "Tinca tinca", "fish"))


def test_a_wnid_that_imagenet_does_not_have_is_said_when_it_is_needed():
    info = ClassInfo(name="x", wnid="n00000000")
    with pytest.raises(UserError) as caught:
        assert info.gloss
    assert str(caught.value) == (
        "class 'x': wnid 'n00000000' is no synset of ImageNet; correct it, or leave it out and give description and "
        "hypernyms"
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "the list is empty; name at least one class"),
        (3, "give a vocabulary's name, a .yaml or .csv file, or a list of classes"),
        (["cat", False], "class 1 is False, not a name; in YAML, quote words like 'no' and numbers"),
        (["cat", " "], "class 1 is ' ', not a name; in YAML, quote words like 'no' and numbers"),
        ([{"name": "cat", "gloss": "x"}], "class 0: unknown key 'gloss'; choose from"),
        ([{"wnid": "n01440764"}], "class 0: 'name' is missing; give it a value"),
        ([{"name": "cat", "wnid": "cat"}], "class 0: wnid: string should match pattern"),
        ("none.yaml", "class list 'none.yaml' cannot be read: No such file or directory"),
    ],
)
def test_what_is_no_list_of_classes_is_said(value, message):
    with pytest.raises(UserError) as caught:
        read_classes(value)
    assert str(caught.value).startswith(message)


def test_a_file_that_is_not_yaml_is_said_in_one_line(tmp_path):
    (tmp_path / "a.yaml").write_text("[cat\n")
    with pytest.raises(UserError, match=r"^class list '.*a.yaml' is not YAML: [^\n]*$"):
        read_classes(str(tmp_path / "a.yaml"))

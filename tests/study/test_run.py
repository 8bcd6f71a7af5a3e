"""Whole studies: the same again, after an interrupt, and in several processes."""

from __future__ import annotations

import json
import time
import warnings
from dataclasses import replace
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from tests.study.test_images import make  # noqa: E402

from omniconv.errors import DataError, SpecError, StorageError, VerificationError  # noqa: E402
from omniconv.study import StudySettings, results, run_study, timing  # noqa: E402
from omniconv.study import run as module  # noqa: E402
from omniconv.study.decoders import ENLARGINGS  # noqa: E402
from omniconv.study.journal import NAME, StudyJournal  # noqa: E402
from omniconv.study.networks import Design  # noqa: E402
from omniconv.study.split import split_images  # noqa: E402
from omniconv.study.training import Training, train  # noqa: E402
from omniconv.study.variants import VARIANTS, find_variants  # noqa: E402

SETTINGS = StudySettings(kinds=("grouped_2",), seeds=2, width=4, epochs=2, decoder_steps=2)


@pytest.fixture
def timeless(monkeypatch):
    """Times that were not measured: they would differ from run to run."""
    names = timing.MEASURES

    def times(designs, split, on_round):
        return {design.variant.name: {name: [1e-5, 2e-5, 1.5e-5] for name in names} for design in designs}

    monkeypatch.setattr(module, "measure_times", times)
    monkeypatch.setattr(module, "match_width", lambda design, standard, split: (2 * design.width, 0.9))
    monkeypatch.setattr("omniconv.study.decoders.DRAWS", 2)
    monkeypatch.setattr("omniconv.study.decoders.OUTPUTS", 2)
    ways = {name: ENLARGINGS[name] for name in ("transposed k3 s2", "transposed k4 s2")}
    for part in (module, results):
        monkeypatch.setattr(part, "ENLARGINGS", ways)
    monkeypatch.setattr(module, "RATES", (1e-3, 1e-2))


def test_stopped_and_resumed_is_the_same(timeless, tmp_path):
    images = make(each=10)
    whole = run_study(images, SETTINGS).to_dict()
    finished = []

    def stop(text, share):
        finished.append(text)
        if len(finished) in {9, 24}:
            raise KeyboardInterrupt

    stops = 0
    while True:
        try:
            found = run_study(images, SETTINGS, folder=tmp_path, on_step=stop)
        except KeyboardInterrupt:
            stops += 1
            with (tmp_path / NAME).open("ab") as file:  # as a machine that fails leaves it
                file.write(b'0123 ["train/sta')
        else:
            break
    assert stops == 2
    assert found.to_dict() == whole
    # done once more, nothing is trained but what a damaged line was of
    before = (tmp_path / NAME).read_bytes()
    damaged = before.replace(b'"accuracy": 0', b'"accuracy": 9', 1)
    assert damaged != before
    (tmp_path / NAME).write_bytes(damaged)
    assert run_study(images, SETTINGS, folder=tmp_path).to_dict() == whole
    assert (tmp_path / NAME).read_bytes().startswith(damaged)
    assert (tmp_path / NAME).read_bytes().count(b"\n") == before.count(b"\n") + 1


def test_a_journal_of_another_study_is_refused(tmp_path, monkeypatch):
    images, path = make(each=10), tmp_path / NAME

    def open_journal(settings=SETTINGS, images=images, resume=True):
        journal = StudyJournal(path, module.describe(settings, images), resume=resume)
        journal.close()
        return journal.found

    journal = StudyJournal(path, module.describe(SETTINGS, images), resume=True)
    journal.add("train/a", {"wrong": [1, 2]})
    with pytest.raises(StorageError, match="another run holds"):
        run_study(images, SETTINGS, folder=tmp_path)
    journal.close()
    assert open_journal() == {"train/a": {"wrong": [1, 2]}}
    assert open_journal(replace(SETTINGS, minutes=3)) == open_journal()
    with pytest.raises(DataError, match=r"of another study: seeds 2, now 3; need .* --restart"):
        run_study(images, replace(SETTINGS, seeds=3), folder=tmp_path)
    with pytest.raises(DataError, match="data "):
        open_journal(images=make(each=10, seed=1))
    with monkeypatch.context() as patch:
        patch.setattr("omniconv.__version__", "9.9")
        with pytest.raises(DataError, match=r"omniconv 0\.1\.0, now 9\.9"):
            open_journal()
    assert open_journal() != {}
    path.write_bytes(b"something\n")
    with pytest.raises(DataError, match="its first line is damaged"):
        open_journal()
    assert open_journal(resume=False) == {}
    with pytest.raises(StorageError, match="opening the journal"):
        run_study(images, SETTINGS, folder=tmp_path / "missing")


def test_time_leaves_fewer_epochs_or_refuses():
    def choose(minutes, processes=1):
        settings = replace(SETTINGS, epochs=1000, minutes=minutes)
        at = SimpleNamespace(settings=settings, began=time.monotonic() - 60, processes=processes)
        return module._choose_epochs(at, 2.0)  # seconds an epoch of all networks

    assert choose(None) == choose(1e6) == 1000
    # one minute is gone; of nine, five trainings for each kind take 1.3 * 5 * 2 seconds an epoch
    assert choose(10) == pytest.approx(540 / 13, abs=1)
    assert choose(10, 2) == pytest.approx(2 * 540 / 13, abs=2)
    with pytest.raises(
        SpecError, match=r"1\.3 minutes are too few for 2 kinds with 2 seeds; need about 1\.5 for 2 epochs"
    ):
        choose(1.3)


def test_what_differs_from_what_was_asked_for_is_said(timeless, monkeypatch):
    monkeypatch.setattr(module, "_choose_epochs", lambda at, work: 1)
    found = run_study(make(each=10), replace(SETTINGS, kinds=("grouped_8", "mixed"), width=5))
    assert [item.width for item in found.same_width] == [5, 8, 6]
    notes = " ".join(found.notes)
    assert "the time allowed 1 epochs instead of 2, for every kind" in notes
    assert "grouped_8 cannot have width 5, which is no multiple of 8; it took 8" in notes
    assert "mixed cannot have width 5, which is no multiple of 2; it took 6" in notes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ("nothing",)}, "kind 'nothing' is not in the study; need some of standard, "),
        ({"kinds": "dilated"}, "kinds='dilated' are no names"),
        ({"kinds": ("standard",)}, "leave nothing to compare"),
        ({"seeds": 1}, "seeds=1 is out of range"),
        ({"width": 2.5}, r"width=2\.5 is not an integer"),
        ({"minutes": -1}, "minutes=-1 is no time; need a positive number"),
        ({"minutes": float("nan")}, "minutes=nan is no time"),
        ({"most_images": 3}, "most_images=3 is out of range"),
    ],
)
def test_settings_that_are_refused(options, message):
    with pytest.raises(SpecError, match=message):
        StudySettings(**options)


def test_every_network_trains_the_same_twice_and_begins_alike():
    split = split_images(make(each=10), 0)
    first = None
    for variant in find_variants(()):
        design = Design(variant, 8, 1, 8, 2)
        model, again = design.build(3), design.build(3)
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
        stem, last = model[0].weight, model[-1].weight
        first = first or (stem, last)
        assert torch.equal(stem, first[0])
        assert torch.equal(last, first[1])
        weights = sum(p.numel() for p in model.parameters() if p.dim() > 1)
        assert weights == design.parameters
    job = Training(Design(VARIANTS["mixed"], 8, 1, 8, 2), 3e-3, 1, 2)
    state = torch.random.get_rng_state()
    assert train(job, split) == train(job, split)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_larger_images_are_halved_and_seen_at_the_same_size():
    design = Design(VARIANTS["standard"], 4, 3, 33, 5)
    assert design.halvings == 2
    assert design.build(0)(torch.zeros(2, 3, 33, 33)).shape == (2, 5)
    assert [shape for _, shape in design.layers] == [(1, 4, 8, 8), (1, 4, 4, 4), (1, 8, 4, 4)]


def test_the_width_whose_time_is_nearest(monkeypatch):
    split = split_images(make(each=10), 0)
    standard = Design(VARIANTS["standard"], 16, 1, 8, 2)
    for variant, slope, wanted in (("grouped_4", 0.02, 48), ("grouped_4", 1.0, 8), ("dilated", 0.001, 128)):
        monkeypatch.setattr(timing, "_compare", lambda design, *_, slope=slope: 0.1 + slope * design.width)
        found = timing.match_width(Design(VARIANTS[variant], 16, 1, 8, 2), standard, split)
        assert found == (wanted, pytest.approx(0.1 + slope * wanted))


def test_runtimes_that_differ_are_an_error():
    model, x = torch.nn.Linear(3, 2), torch.ones(1, 3)
    timing._check_alike(model, model, x, "made")
    with pytest.raises(VerificationError, match="the made network of Omniconv differs by 1 from"):
        timing._check_alike(model, lambda x: model(x) + 1, x, "made")


@pytest.mark.wide
def test_several_processes_find_the_same(timeless, tmp_path):
    images = make(each=10)
    alone, together = (run_study(images, SETTINGS, processes=count).to_dict() for count in (1, 2))
    # what is drawn for untrained layers is fewer here than in other processes
    for found in (alone, together):
        for item in found["decoders"]:
            for key in ("energies", "contrast", "untrained"):
                del item[key]
        del found["claims"]
        found["decoders"] = found["decoders"][:0]
    assert alone == together


@pytest.mark.wide
def test_times_and_widths_are_measured():
    split = split_images(make(each=20), 0)
    designs = [Design(VARIANTS[kind], 8, 1, 8, 2) for kind in ("standard", "shuffled_grouped")]
    shares = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = timing.measure_times(designs, split, shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert all(len(rounds) == timing.ROUNDS and min(rounds) > 0 for item in found.values() for rounds in item.values())
    width, pace = timing.match_width(designs[1], designs[0], split)
    assert width % 4 == 0
    assert pace > 0
    assert json.dumps([found, width, pace])

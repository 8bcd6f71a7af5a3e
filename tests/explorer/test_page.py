"""The page in a browser: it shows what is true, takes any input, makes no request, and works by keyboard alone."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image
from tests.explorer.fold import unfold
from tests.explorer.model import ask, needs_node

from omniconv.errors import OmniconvError
from omniconv.explorer import explore
from omniconv.kinds import kinds
from omniconv.reference import reference

KEEP_SAVED = """() => {
    const makeAddress = URL.createObjectURL;
    URL.createObjectURL = blob => { window.saved = blob.text(); return makeAddress.call(URL, blob); };
}"""
RUN_SAYS = "text => document.querySelector('#panel-run-on-a-picture').textContent.includes(text)"
TABS = ("know", "run-on-a-picture", "checkerboard", "learn", "take-along")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return explore("cross_correlation").save(tmp_path_factory.mktemp("page") / "explorer.html")


@pytest.fixture
def page(browser, file):
    """The page, which at the end has written no error and asked for nothing but itself."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page = context.new_page()
    wrong, requests = [], []
    page.on("console", lambda message: message.type in ("error", "warning") and wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(file.as_uri())
    yield page
    assert wrong == []
    assert {url.partition("#")[0] for url in requests if not url.startswith("blob:")} == {file.as_uri()}
    context.close()


def enter_line(page, line: str) -> None:
    page.get_by_label("The layer as one line of text").fill(line)
    page.keyboard.press("Enter")


@pytest.mark.wide
def test_every_kind_is_shown_on_every_tab(page):
    for kind in kinds():
        page.select_option("#kind", kind)
        assert page.locator(".refusal").text_content() == "", kind
        assert "output" in page.locator(".where").text_content(), kind
        for tab in TABS:
            page.click(f"#tab-{tab}")
            assert page.locator(f"#panel-{tab}").is_visible(), (kind, tab)


@pytest.mark.wide
def test_every_axis_of_every_kind_is_shown(page):
    for kind in kinds():
        page.select_option("#kind", kind)
        for axes in ("1-D", "3-D"):
            page.locator(".controls .segmented label", has_text=axes).click()
            refusal = page.locator(".refusal").text_content()
            if (kind, axes) == ("factorised", "1-D"):
                assert refusal == "SpecError: dims=1 has no spatial axis beside time; need dims=2 or dims=3"
            else:
                assert refusal == "", (kind, axes)


@pytest.mark.wide
def test_samples_of_every_kind_have_the_values_of_the_reference(page):
    page.click("#tab-take-along")
    page.evaluate(KEEP_SAVED)  # of a hundred downloads within seconds the browser loses one now and then
    for kind in kinds().values():
        for sample in kind.samples:
            spec, shape = kind.build(sample), (1, *sample.shape[1:])
            enter_line(page, spec.text(shape))
            page.get_by_role("button", name="Save the numbers as CSV").click()
            rows = {row[0]: row[1:] for row in csv.reader(io.StringIO(page.evaluate("window.saved")))}
            arrays = {
                name: np.array(values, np.float64).reshape([int(n) for n in size.split("x")])
                for name, (size, *values) in rows.items()
            }
            weights = [(arrays[f"w{i}"], None) for i in range(len(spec.weight_shapes))]
            expected = reference(spec, arrays["x"], weights)
            np.testing.assert_allclose(arrays["y"], expected, rtol=1e-5, atol=1e-5, err_msg=f"{kind.name}: {sample}")


def test_illegal_settings_are_refused_in_the_words_of_python_and_the_page_lives_on(page):
    page.select_option("#kind", "grouped")
    for box, value, changed in (
        ("groups", "3", {"groups": 3}),
        ("kernel size, height", "0", {"kernel_size": (0, 3)}),
        ("stride, width", "-1", {"stride": (1, -1)}),
        ("kernel size, width", "9", {"kernel_size": (3, 9)}),
    ):
        arguments = {"in_channels": 4, "out_channels": 4, "kernel_size": (3, 3), "groups": 2, "dims": 2, "padding": 1}
        with pytest.raises(OmniconvError) as caught:
            kinds()["grouped"].constructor(**{**arguments, **changed}).output_shape((1, 4, 5, 5))
        control = page.get_by_label(box, exact=True)
        before = control.input_value()
        control.fill(value)
        assert page.locator(".refusal").text_content() == f"{type(caught.value).__name__}: {caught.value}"
        control.fill(before)
        assert page.locator(".refusal").text_content() == ""
    page.get_by_label("input size, height").fill("100000")
    assert "need at most" in page.locator(".refusal").text_content()
    page.get_by_label("input size, height").fill("6")
    assert "4 × 6×5" not in page.locator(".refusal").text_content()
    assert "ih6 iw5" in page.get_by_label("The layer as one line of text").input_value()


HUGE = (
    "convolution ic1 oc1 iw9 kw2 sw1000000000",
    "transposed ic1 oc1 iw1 kw1 sw1000000000",
    "dilated ic1 oc1 iw9 kw2 dw1000000000 pl1000000000",
    "convolution ic1 oc1 iw9 kw1000000000 pl1000000000",
    "pointwise ic100000000 oc1 iw1 kw1",
    "pointwise ic1 oc2000000 iw1 kw1",
    "convolution ic1 oc1 ih60000 iw60000 kh3 kw3",
    "chain iw9 > resize f10000000 linear > convolution ic1 oc1 kw3",
    "convolution ic900 oc900 ih8 iw8 kh3 kw3",
)


def test_huge_settings_are_refused_with_the_limit_at_once(page):
    page.set_default_timeout(5000)
    for line in HUGE:
        enter_line(page, line)
        assert " on this page | " in page.locator(".refusal").text_content(), line
        page.select_option("#kind", "pointwise")
        assert page.locator(".refusal").text_content() == ""


def test_hostile_text_stays_text(page, file):
    enter_line(page, "pointwise")
    assert "refused" in page.locator("body").get_attribute("class")
    evil = '<img src=x onerror="document.title=1">'
    enter_line(page, f"convolution {evil}")
    assert evil.split(maxsplit=1)[0] in page.locator(".refusal").text_content()
    for kind in ("text", "transposed", "nothing"):
        given = quote(json.dumps({"mode": evil, "padding": evil, "in_channels": evil}))
        page.goto(f"{file.as_uri()}#kind={kind}&text={quote(evil)}&given={given}&sizes=1x9x9")
        page.reload()
        assert page.locator("img").count() == 0
        assert page.title() == "Omniconv explorer"
        page.select_option("#kind", "pointwise")
        assert "reads" in page.locator(".where").text_content()


def test_pointing_and_keys_choose_values_both_ways(page):
    page.select_option("#kind", "transposed")
    where = page.locator(".where")
    assert where.text_content().startswith("output, channel 0, row 4, column 4")
    page.locator(".stage canvas").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowUp")
    assert where.text_content().startswith("output, channel 0, row 3, column 3")
    assert "reads 1 of 16 inputs" in where.text_content()
    page.keyboard.press(",")
    assert where.text_content().startswith("input, channel 0, row 3, column 3")
    assert "feeds 9 of 81 outputs" in where.text_content()
    page.keyboard.press("Home")
    assert where.text_content().startswith("input, channel 0, row 0, column 0")
    page.mouse.move(*[box + 70 for box in list(page.locator(".stage canvas").bounding_box().values())[:2]])
    page.mouse.move(*[box + 100 for box in list(page.locator(".stage canvas").bounding_box().values())[:2]])
    assert not where.text_content().startswith("input, channel 0, row 0, column 0")
    before = where.text_content()
    page.locator(".stage canvas").focus()
    page.keyboard.press(" ")
    page.wait_for_function("text => document.querySelector('.where').textContent !== text", arg=before)
    assert page.get_by_role("button", name="Pause").is_visible()
    page.keyboard.press(" ")
    assert page.get_by_role("button", name="Play").is_visible()


def test_a_transposed_kernel_is_uneven_and_cured(page):
    page.select_option("#kind", "transposed")
    overlap = page.locator("section[aria-label=Overlap]")
    assert overlap.locator(".result").text_content() == "away from the border: 1 : 2 : 4 — uneven: a checkerboard"
    overlap.get_by_role("button", name="Cure it: use a 4x4 kernel").click()
    assert overlap.locator(".result").text_content() == "away from the border: 4 — even"
    page.click("#tab-checkerboard")
    first = page.locator("#panel-checkerboard .figure .result").first
    assert first.text_content() == "1 : 2 : 4 — largest over smallest: 4"
    page.locator("#panel-checkerboard label", has_text="4×4").click()
    assert first.text_content() == "4 — largest over smallest: 1"


def test_the_first_lesson_is_done_by_keyboard_alone(page):
    for _ in range(200):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "tab-know":
            break
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "tab-learn"
    reveal = page.get_by_role("button", name="Reveal")
    assert reveal.is_disabled()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press(" ")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    answer = page.locator(".answer").text_content()
    assert answer.startswith("✓ As you predicted: 0 1 2 3 0")
    assert "gives 0 3 2 1 0" in answer
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.get_by_label("The layer as one line of text").input_value().endswith("g1 flip")
    assert page.evaluate("document.activeElement === document.querySelector('.stage canvas')")
    assert page.locator(".stage canvas").evaluate("canvas => canvas.getBoundingClientRect().top >= 0")
    assert [page.get_by_label(f"weight {i} of input channel 0").input_value() for i in range(3)] == ["1", "2", "3"]
    assert page.locator(".sum").text_content().replace(" ", "") == "2=0·3+1·2+0·1"
    assert page.locator(".where").text_content().startswith("output, channel 0, column 2: 2, ")


@pytest.mark.wide
def test_every_lesson_finds_its_answer_among_its_options(page):
    page.click("#tab-learn")
    for number in range(1, 14):
        assert page.locator(".lesson h3").text_content().startswith(f"{number} of 13: ")
        page.locator(".lesson .segmented label").first.click()
        page.get_by_role("button", name="Reveal").click()
        answer = page.locator(".answer p")
        options = page.locator(".lesson .segmented span").all_text_contents()
        said, _, right = answer.first.text_content().partition(": ")
        assert right in options, number
        assert said == ("✓ As you predicted" if right == options[0] else "✗ Not your prediction. It is"), number
        page.get_by_role("button", name="Show this layer above").click()
        assert page.locator(".refusal").text_content() == "", number
        if number < 13:
            page.get_by_role("button", name="Next lesson").click()


def test_a_lesson_leads_to_the_holes_of_a_dilated_transposed_layer_and_to_their_cure(page):
    page.click("#tab-learn")
    while "holes" not in page.locator(".lesson h3").text_content():
        page.get_by_role("button", name="Next lesson").click()
    page.locator(".lesson .segmented label", has_text="none").click()
    page.get_by_role("button", name="Reveal").click()
    assert "Outputs 1, 3, 5, 7, 9 are holes" in page.locator(".answer").text_content()
    assert "With 4 taps every output away from the border is met 2 times." in page.locator(".answer").text_content()
    page.get_by_role("button", name="Show this layer above").click()
    # The middle one, 5, is a hole.
    assert page.locator(".where").text_content().startswith("output, channel 0, column 4: 123, reads 3 of 4 inputs")
    page.locator(".stage canvas").focus()
    page.keyboard.press("ArrowRight")
    assert "no tap of the kernel lands here (a hole)" in page.locator(".sum").text_content()
    page.get_by_role("button", name="Show its cure above").click()
    assert "kw4 sw2 dw1" in page.get_by_label("The layer as one line of text").input_value()
    assert "reads 2 of 4 inputs" in page.locator(".where").text_content()


@pytest.mark.wide
def test_the_value_that_is_shown_first_is_no_hole(page):
    where = page.locator(".where")
    page.select_option("#kind", "transposed")
    assert where.text_content().startswith("output, channel 0, row 4, column 4: ")
    page.locator(".stage canvas").focus()
    page.keyboard.press("ArrowRight")
    for axis in ("height", "width"):
        page.get_by_label(f"dilation, {axis}").fill("2")
    # Row 4, column 5 is a hole now; the columns beside it are as near.
    assert where.text_content().startswith("output, channel 0, row 4, column 4: ")
    page.locator(".stage canvas").focus()
    page.keyboard.press("ArrowRight")
    assert ", reads 0 of 16 inputs" in where.text_content()
    page.get_by_label("weight 0, 0 of input channel 0").fill("9")
    assert ", reads 0 of 16 inputs" in where.text_content()
    page.locator(".stage canvas").focus()
    for weight in range(2):
        page.get_by_label(f"kernel size, {('height', 'width')[weight]}").fill("1")
    assert ", reads 1 of 16 inputs" in where.text_content()


@pytest.mark.wide
def test_the_numbers_of_a_field_are_said_in_words(page):
    enter_line(page, "transposed ic1 oc1 ih4 iw4 kh3 kw3 sh2 sw2 dh2 dw2")
    words = page.locator("section[aria-label='Receptive field'] .small").all_text_contents()
    [sentence] = words
    for part in (
        "On h and w: one output sees a stretch of 3 positions of the input.",
        "the stretch of output 0 begins 2 before it, where there is padding or nothing.",
        "Its centre is its middle, −1, negative because that is before the first input",
        "With each further output it moves by 1/2, the stride. Some outputs are holes, which see nothing.",
    ):
        assert part in sentence


def test_a_picture_is_chosen_again_after_one_of_the_readers_own(page):
    page.click("#tab-run-on-a-picture")
    panel = page.locator("#panel-run-on-a-picture")
    before = panel.locator("canvas").first.evaluate("canvas => canvas.toDataURL()")
    own = {"name": "x.png", "mimeType": "image/png", "buffer": make_picture(np.zeros((20, 40), np.uint8), "PNG")}
    for _ in range(2):  # the same file twice
        page.get_by_label("A picture of your own").set_input_files(own)
        page.wait_for_function("() => document.querySelector('.photo').width === 40")
        assert panel.locator("input:checked").evaluate_all("all => all.map((one) => one.value)") == ["256"]
        panel.locator("label", has_text="shapes").click()
        page.wait_for_function("() => document.querySelector('.photo').width === 256")
        assert panel.locator("canvas").first.evaluate("canvas => canvas.toDataURL()") == before


def test_a_layer_runs_on_a_picture_with_its_weights(page):
    page.click("#tab-run-on-a-picture")
    words = page.locator("#panel-run-on-a-picture .result")
    wait = "word => document.querySelector('#panel-run-on-a-picture .result').textContent.includes(word)"
    page.wait_for_function(wait, arg="WebAssembly")
    assert "589\u202f824 MAC, by Omniconv's WebAssembly with " in words.text_content()
    page.get_by_role("button", name="Compare with a plain JavaScript loop").click()
    page.locator("#panel-run-on-a-picture label", has_text="512").click()
    assert "by a WebAssembly module that Omniconv compiled for this layer" in words.text_content()
    page.get_by_role("button", name="Compare with a plain JavaScript loop").click()
    assert "A plain JavaScript loop takes" in page.locator("#panel-run-on-a-picture").text_content()
    page.get_by_role("button", name="blur").click()
    assert "exactly a column times a row" in page.locator(".kernel .note").text_content()
    values = page.locator("#panel-run-on-a-picture .note").text_content()
    weight = page.get_by_label("weight 1, 1 of input channel 0")
    weight.fill("")
    weight.press_sequentially("12.5")
    assert weight.input_value() == "12.5"
    assert "column times a row is this kernel" in page.locator(".kernel .note").text_content()
    assert page.locator("#panel-run-on-a-picture .note").text_content() != values
    chosen = page.get_by_label("A picture of your own")
    chosen.set_input_files({"name": "x.png", "mimeType": "image/png", "buffer": b"no picture"})
    page.wait_for_function(wait, arg="no picture")
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20"><rect width="20" height="20"/></svg>'
    chosen.set_input_files({"name": "x.svg", "mimeType": "image/svg+xml", "buffer": svg})
    page.wait_for_timeout(200)
    page.locator("#panel-run-on-a-picture label", has_text="rings").click()
    page.wait_for_function(wait, arg="MAC")
    page.select_option("#kind", "factorised")
    assert "need a layer of two axes" in words.text_content()


def test_the_address_brings_a_setting_back(page, file):
    page.select_option("#kind", "dilated")
    page.get_by_label("dilation, width").fill("3")
    line = page.get_by_label("The layer as one line of text").input_value()
    assert "dh2 dw3" in line
    address = page.evaluate("location.href")
    page.goto("about:blank")
    page.goto(address)
    assert page.get_by_label("The layer as one line of text").input_value() == line
    enter_line(page, "chain ih6 iw6 > convolution ic1 oc4 kh3 kw3 pt1 pb1 pl1 pr1 > pixel_shuffle f2")
    line = page.get_by_label("The layer as one line of text").input_value()
    page.reload()
    assert page.get_by_label("The layer as one line of text").input_value() == line


@pytest.mark.wide
def test_the_start_is_what_python_was_asked_for(browser, tmp_path):
    for number, (what, shape, text) in enumerate(
        (
            ("dilated", None, "dilated n1 ic1 oc1 ih9 iw9"),
            ("dilated", (1, 3, 9, 8), "dilated n1 ic3 oc5 ih9 iw8"),
            ("convolution ic2 oc3 iw12 kw4", None, "convolution n1 ic2 oc3 iw12 kw4"),
        )
    ):
        page = browser.new_page()
        page.goto(explore(what, shape).save(tmp_path / f"{number}.html").as_uri())
        assert page.get_by_label("The layer as one line of text").input_value().startswith(text)
        page.close()


@pytest.mark.wide
def test_a_phone_shows_the_page_without_scrolling_sideways(browser, file):
    context = browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True)
    page = context.new_page()
    page.goto(file.as_uri())
    for kind in ("cross_correlation", "shuffled_grouped", "factorised", "mixed"):
        page.select_option("#kind", kind)
        for tab in TABS:
            page.click(f"#tab-{tab}")
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, (kind, tab)
    context.close()


def test_the_file_is_small_and_paints_soon(browser, file):
    assert file.stat().st_size < 1_500_000
    page = browser.new_page()
    page.goto(file.as_uri())
    assert page.locator(".where").text_content()
    page.close()


@pytest.mark.wide
def test_pictures_are_saved_as_svg_and_png(page):
    page.click("#tab-take-along")
    for name, start in (("Save it as SVG", b"<svg "), ("Save the picture as PNG", b"\x89PNG")):
        with page.expect_download() as saved:
            page.get_by_role("button", name=name).click()
        assert Path(saved.value.path()).read_bytes().startswith(start)


@pytest.mark.wide
def test_the_sliding_kernel_is_saved_as_an_animation(page):
    enter_line(page, "convolution ic1 oc1 ih5 iw4 kh3 kw3")
    page.click("#tab-take-along")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save the sliding kernel as GIF").click()
    canvas = page.locator(".stage canvas")
    canvas.focus()
    page.keyboard.press("Home")
    with Image.open(saved.value.path()) as animation:
        assert (animation.n_frames, animation.info["loop"]) == (6, 0)
        for number in range(6):
            animation.seek(number)
            assert animation.info["duration"] == 400
            drawn = canvas.evaluate("canvas => new Promise(requestAnimationFrame).then(() => canvas.toDataURL())")
            expected = Image.open(io.BytesIO(base64.b64decode(drawn.partition(",")[2]))).convert("RGB")
            frame = animation.convert("RGB").crop((0, 0, *expected.size))
            difference = np.abs(np.asarray(frame, int) - np.asarray(expected, int))
            assert difference.max() <= 40  # 256 colours are kept
            assert difference.mean() < 0.1
            page.keyboard.press("ArrowRight" if number % 2 == 0 else "ArrowDown")
            if number % 2:
                page.keyboard.press("ArrowLeft")
    assert page.locator("#panel-take-along .note").first.text_content() == " The animation shows all 6 outputs."


@needs_node
def test_animations_are_those_that_other_programs_read():
    """Runs of all lengths, more colours than a palette has, and tables of codes that are full."""
    rng = np.random.default_rng(0)
    cases = []
    for colours, (height, width), count in ((2, (1, 1), 1), (3, (7, 5), 4), (256, (90, 110), 2), (5, (40, 90), 3)):
        palette = np.unique(rng.integers(0, 256**3, 2 * colours))[:colours]
        frames = palette[rng.integers(0, colours, (count, height, width))]
        if count > 2:
            frames[2] = frames[1]
            frames[2, 0, 0] = palette[0]
        cases.append(frames)
    asked = [{"ask": "gif", "frames": case.reshape(len(case), -1).tolist(), "width": case.shape[2]} for case in cases]
    for frames, answer in zip(cases, ask(asked), strict=True):
        with Image.open(io.BytesIO(base64.b64decode(answer["answer"]))) as found:
            assert found.n_frames == len(frames)
            for number, frame in enumerate(frames):
                found.seek(number)
                assert (np.asarray(found.convert("RGB"), int) @ (1, 256, 65536) == frame).all()


def test_a_line_has_boxes_for_the_axes_that_it_has(page):
    for line, letters in (("convolution ic1 oc1 iw9 kw3", "w"), ("convolution ic1 oc1 ih9 iw9 kh3 kw3", "hw")):
        enter_line(page, line)
        assert "".join(page.locator(".controls .letter").all_text_contents()) == letters


def test_weights_are_painted_with_the_pointer_and_with_keys(page):
    boxes = [page.get_by_label(f"weight {row}, {column} of input channel 0") for row in (0, 1) for column in range(3)]
    before = [float(box.input_value()) for box in boxes]
    page.locator(".brush label", has_text="raises").click()
    page.get_by_label("how much a stroke adds").fill("0.25")
    middles = [(b["x"] + b["width"] / 2, b["y"] + b["height"] / 2) for b in (box.bounding_box() for box in boxes)]
    page.mouse.move(*middles[0])
    page.mouse.down()
    for place in (1, 2, 1, 2, 5):
        page.mouse.move(*middles[place], steps=4)
    page.mouse.up()
    page.mouse.move(*middles[4])
    raised = [float(box.input_value()) - was for box, was in zip(boxes, before, strict=True)]
    assert raised == [0.25, 0.25, 0.25, 0, 0, 0.25]
    page.locator(".brush label", has_text="lowers").click()
    boxes[3].click()
    assert float(boxes[3].input_value()) == before[3] - 0.25
    page.locator(".brush label", has_text="types").click()
    boxes[4].focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowDown")
    assert float(boxes[4].input_value()) == before[4] + 0.25
    assert page.evaluate("document.activeElement.dataset.weight") == "4"
    weights = read_numbers(page)["w0"]
    assert weights[:6] == [float(box.input_value()) for box in boxes]


def test_learned_filters_and_the_best_product_are_one_press_away(page):
    note = page.locator(".kernel .note")
    learned = page.get_by_role("button", name="learned")
    kernels = []
    boxes = page.locator(".weights input")
    for number in range(1, 10):
        learned.click()
        assert f"Filter {(number - 1) % 8 + 1} of 8" in page.locator(".kernel").text_content()
        kernels.append(boxes.evaluate_all("boxes => boxes.map((box) => Number(box.value))"))
    assert kernels[8] == kernels[0]
    assert len({tuple(kernel) for kernel in kernels}) == 8
    assert all(max(map(abs, kernel)) == 1 for kernel in kernels)
    u, s, v = np.linalg.svd(np.reshape(kernels[0], (3, 3)))
    page.get_by_role("button", name="Use the best column × row").click()
    assert "Rank 1: this kernel is exactly a column times a row" in note.text_content()
    np.testing.assert_allclose(np.reshape(read_numbers(page)["w0"], (3, 3)), s[0] * np.outer(u[:, 0], v[0]), atol=1e-9)
    enter_line(page, "convolution ic1 oc1 ih9 iw9 kh4 kw4")
    assert learned.is_disabled()
    assert learned.get_attribute("title") == "there are learned filters of 3×3 and 5×5"


@pytest.mark.wide
def test_a_region_of_picture_and_result_is_a_table(page):
    page.click("#tab-run-on-a-picture")
    panel = page.locator("#panel-run-on-a-picture")
    page.wait_for_function(
        "() => document.querySelector('#panel-run-on-a-picture .result').textContent.includes('MAC')"
    )
    unfold(panel)
    panel.get_by_label("first row of the region").fill("20")
    panel.get_by_label("first column of the region").fill("999")
    captions = panel.locator("caption").all_text_contents()
    assert captions == [
        f"{name}, 256 × 256, from row 20 and column 246" for name in ("the picture, grey", "the result, channel 0")
    ]
    before = panel.locator("td").all_text_contents()
    assert len(before) == 2 * 10 * 11
    page.get_by_role("button", name="sharpen").click()
    after = panel.locator("td").all_text_contents()
    assert after[:110] == before[:110]
    assert after[110:] != before[110:]
    panel.locator("canvas").last.click(position={"x": 100, "y": 60})
    assert "from row 55 and column 95" in panel.locator("caption").last.text_content()


@pytest.mark.wide
def test_the_camera_is_off_until_it_is_asked_for(browser, file):
    context = browser.new_context()
    page = context.new_page()
    page.goto(file.as_uri())
    page.click("#tab-run-on-a-picture")
    use = page.get_by_role("button", name="Use the camera")
    use.click()
    page.wait_for_function(RUN_SAYS, arg="The camera was refused")
    context.grant_permissions(["camera"])
    use.click()
    page.wait_for_function(RUN_SAYS, arg="The camera is on.")
    drawn = "() => document.querySelectorAll('.photo')[1].toDataURL()"
    first = page.evaluate(drawn)
    page.wait_for_function(f"first => ({drawn})() !== first", arg=first)
    assert page.locator("#panel-run-on-a-picture fieldset").first.locator("input:checked").count() == 0
    page.locator("#panel-run-on-a-picture label", has_text="shapes").click()
    assert page.get_by_role("button", name="Use the camera").is_visible()
    use.click()
    page.wait_for_function(RUN_SAYS, arg="The camera is on.")
    page.click("#tab-know")
    page.wait_for_function(
        "() => document.querySelector('#panel-run-on-a-picture').textContent.includes('was not shown')"
    )
    page.click("#tab-run-on-a-picture")
    assert page.get_by_role("button", name="Use the camera").is_visible()
    page.evaluate("Object.defineProperty(navigator, 'mediaDevices', { value: undefined })")
    use.click()
    page.wait_for_function(RUN_SAYS, arg="This browser gives no camera to this page.")
    context.close()


@pytest.mark.wide
def test_alternatives_are_timed_by_a_named_engine(page):
    cost = page.locator("section[aria-label=Cost]")
    assert "time" not in cost.locator("th").all_text_contents()
    page.wait_for_timeout(300)
    cost.get_by_role("button", name="Measure the times").click()
    page.wait_for_function("() => document.querySelector('section[aria-label=Cost]').textContent.includes('Time at')")
    assert "Time at 1 × 64 × 64 by Omniconv's WebAssembly with" in cost.text_content()
    times = [row.rpartition("\t")[2] for row in cost.locator("tbody tr").all_inner_texts()]
    assert len(times) > 3
    assert all(re.fullmatch(r"\d[\d.e-]*\u202fms", time) and time[:2] != "0\u202f" for time in times), times


@pytest.mark.wide
def test_paddings_stand_side_by_side(page):
    enter_line(page, "convolution ic1 oc1 ih8 iw8 kh3 kw3 sh2 sw2 same_upper")
    same = page.locator("section[aria-label='Same, side by side']")
    words = "on w every window of PyTorch's begins 1 earlier than TensorFlow's, so that every output may differ"
    assert words in same.text_content()
    unfold(same)
    rows = same.locator("tbody tr").all_inner_texts()
    assert rows[1].split("\t") == [
        "TensorFlow, Keras: same",
        "0 and 1",
        "0 and 1",
        "4×4",
        "0, 0",
        "rows 3 and columns 3",
    ]
    modes = page.locator("section[aria-label='Padding modes, side by side']")
    unfold(modes)
    assert modes.locator("tbody tr").nth(1).inner_text().split("\t")[2] == "0 1 2 3 4 5 6 7 6"
    assert "Only these outputs depend on the mode: rows 3 and columns 3." in modes.text_content()
    page.select_option("#kind", "transposed")
    assert not same.is_visible()


@pytest.mark.wide
def test_every_cure_is_one_press_and_even_from_the_start(page):
    page.select_option("#kind", "transposed")
    overlap = page.locator("section[aria-label=Overlap]")
    cures = overlap.get_by_role("button", name="Cure it")
    assert cures.count() == 4
    for number in range(4):
        page.select_option("#kind", "transposed")
        words = cures.nth(number).text_content()
        cures.nth(number).click()
        assert page.locator(".refusal").text_content() == ""
        assert overlap.locator(".result").text_content().endswith(" — even"), words
        weights = read_numbers(page)
        page.click("#tab-know")
        if "ICNR" in words:
            assert len({tuple(weights["w0"][9 * i : 9 * i + 9]) for i in range(4)}) == 1
        if "mean" in words:
            assert weights["w1"] == [0.25] * 4


def test_the_field_follows_the_chosen_output(page):
    field = page.locator("section[aria-label='Receptive field']")
    page.locator(".stage canvas").focus()
    page.keyboard.press("Home")
    assert "What the chosen output depends on: 4 of 49 positions." in field.text_content()
    page.keyboard.press("End")
    unfold(field)
    rows = field.locator("details tbody tr").all_inner_texts()
    assert [row.split("\t")[1:] for row in rows] == [["0"] * 7] * 5 + [["0"] * 5 + ["1"] * 2] * 2


@pytest.mark.wide
def test_channels_are_wired_as_the_steps_read_them(page):
    wiring = page.locator("section[aria-label='Channels through the steps']")
    assert not wiring.is_visible()
    enter_line(
        page, "chain ih4 iw4 > grouped ic6 oc6 kh3 kw3 pt1 pb1 pl1 pr1 g2 > shuffle g2 > depthwise ic6 oc6 kh1 kw1 g6"
    )
    unfold(wiring)
    rows = [row.split("\t") for row in wiring.locator("tbody tr").all_inner_texts()]
    assert [row[2] for row in rows[:6]] == ["0, 1, 2"] * 3 + ["3, 4, 5"] * 3
    assert [row[2] for row in rows[6:12]] == ["0", "3", "1", "4", "2", "5"]
    assert [row[2] for row in rows[12:]] == [str(c) for c in range(6)]


@pytest.mark.wide
def test_a_letter_that_is_dragged_changes_its_number(page):
    box = page.get_by_label("dilation, height")
    letter = page.locator(".box", has=box).locator(".letter").bounding_box()
    x, y = letter["x"] + letter["width"] / 2, letter["y"] + letter["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 20, y, steps=4)
    line = page.get_by_label("The layer as one line of text")
    assert "dh2 dw1" in line.input_value()
    page.mouse.move(x + 34, y, steps=4)
    page.mouse.up()
    page.mouse.move(x + 90, y)
    assert "dh3 dw1" in line.input_value()
    assert box.input_value() == "3"


@pytest.mark.wide
def test_lessons_link_their_sources(page):
    page.click("#tab-learn")
    page.locator(".lesson summary").first.click()
    link = page.locator(".lesson a").first
    assert link.get_attribute("href") == "https://arxiv.org/abs/1603.07285"
    assert "y[c, o] = b[c] + sum_{j, t}" in page.locator(".lesson pre").first.text_content()


@pytest.mark.wide
def test_the_laboratory_enlarges_a_picture_and_judges_by_a_flat_input(page):
    page.click("#tab-checkerboard")
    panel = page.locator("#panel-checkerboard")
    panel.locator("label", has_text="a picture").click()
    words = panel.locator(".figure .result").first.text_content()
    assert words == "a flat input: 1 : 2 : 4 — largest over smallest: 4"
    unfold(panel)
    rows = panel.locator("section[aria-label=Transposed] tbody tr")
    assert rows.count() == 41
    assert len({cell for row in rows.all_inner_texts() for cell in row.split("\t")[1:]}) > 20


def make_picture(array: np.ndarray, form: str, **more) -> bytes:
    out = io.BytesIO()
    Image.fromarray(array).save(out, form, **more)
    return out.getvalue()


def read_region(page, name: str, data: bytes) -> tuple[list[str], list[list[float]]]:
    """What is told of a picture of the reader's own: captions, and the values of red at its first corner."""
    panel = page.locator("#panel-run-on-a-picture")
    before = panel.locator("caption").all_text_contents()
    page.get_by_label("A picture of your own").set_input_files({"name": name, "mimeType": "image/png", "buffer": data})
    changed = "before => document.querySelector('#panel-run-on-a-picture caption').textContent !== before"
    page.wait_for_function(changed, arg=before[0])
    rows = panel.locator("table").first.locator("tbody tr").all_inner_texts()
    return panel.locator("caption").all_text_contents(), [[float(n) for n in row.split("\t")[1:]] for row in rows]


@pytest.mark.wide
def test_pictures_of_every_form_are_read_upright_and_on_white(page):
    enter_line(page, "depthwise ic3 oc3 ih5 iw5 kh1 kw1 g3")
    page.click("#tab-run-on-a-picture")
    page.wait_for_function(RUN_SAYS, arg=" MAC")
    unfold(page.locator("#panel-run-on-a-picture"))
    ramp = np.linspace(0, 1, 9)
    grey = np.round(ramp * 65535).astype(np.uint16) + np.zeros((4, 1), np.uint16)
    captions, values = read_region(page, "16.png", make_picture(grey, "PNG"))
    assert captions[0] == "the picture, red, 4 × 9, from row 0 and column 0"
    np.testing.assert_allclose(values, [ramp] * 4, atol=0.006)
    clear = np.zeros((5, 3, 4), np.uint8)
    clear[2:, :, 3] = 255
    _, values = read_region(page, "clear.png", make_picture(clear, "PNG"))
    assert values == [[1] * 3] * 2 + [[0] * 3] * 3
    turned = np.zeros((16, 24, 3), np.uint8)
    turned[:, :8, 0] = 255  # left; by its orientation, 90 degrees clockwise, on top
    exif = Image.Exif()
    exif[0x0112] = 6
    captions, values = read_region(
        page, "turned.jpg", make_picture(turned, "JPEG", exif=exif, quality=100, subsampling=0)
    )
    assert captions[0] == "the picture, red, 24 × 16, from row 0 and column 0"
    np.testing.assert_allclose(values[:7], 1, atol=0.05)
    np.testing.assert_allclose(values[9:], 0, atol=0.05)


@pytest.mark.wide
def test_a_picture_of_thirty_megapixels_is_scaled(page):
    page.click("#tab-run-on-a-picture")
    page.wait_for_function(RUN_SAYS, arg=" MAC")
    unfold(page.locator("#panel-run-on-a-picture"))
    captions, values = read_region(page, "large.png", make_picture(np.full((5000, 6000), 51, np.uint8), "PNG"))
    assert captions[0] == "the picture, grey, 213 × 256, from row 0 and column 0"
    assert set(np.ravel(values)) == {0.2}


def read_numbers(page) -> dict[str, list[float]]:
    """The numbers of the layer that is shown, by their names."""
    page.click("#tab-take-along")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save the numbers as CSV").click()
    text = Path(saved.value.path()).read_text("utf-8")
    return {name: [float(value) for value in values] for name, _, *values in csv.reader(io.StringIO(text))}


def test_edited_weights_come_back_with_the_address(page):
    page.get_by_label("weight 0, 1 of input channel 0").fill("12.25")
    page.get_by_role("button", name="New numbers").click()
    page.get_by_label("weight 1, 1 of input channel 0").fill("-7.125")
    page.get_by_label("input size, height").fill("6")
    before = read_numbers(page)
    assert before["w0"][4] == -7.125
    assert "edited weights too" in page.locator("#panel-take-along").text_content()
    page.reload()
    assert read_numbers(page) == before
    page.select_option("#kind", "text")
    assert read_numbers(page) == before
    page.get_by_role("button", name="New numbers").click()
    assert -7.125 not in read_numbers(page)["w0"]
    enter_line(page, "pointwise ic16 oc17 iw5 kw1")
    assert "not weights that were edited: it keeps up to 256" in page.locator("#panel-take-along").text_content()


@pytest.mark.wide
def test_a_weight_is_edited_while_a_setting_is_refused(page):
    page.get_by_label("stride, width").fill("0")
    page.get_by_label("weight 0, 0 of input channel 0").fill("50")
    assert page.locator(".refusal").text_content() != ""
    page.get_by_label("stride, width").fill("1")
    assert page.locator(".refusal").text_content() == ""
    assert page.get_by_label("weight 0, 0 of input channel 0").input_value() == "50"


@pytest.mark.wide
def test_a_layer_that_is_too_large_opens_smaller(browser, tmp_path):
    for number, (line, start, note) in enumerate(
        (
            (
                "convolution n2 ic64 oc64 ih56 iw56 kh3 kw3",
                "convolution n1 ic64 oc64 ih14 iw14",
                "smaller input, 14×14. ",
            ),
            (
                "pointwise ic2000 oc1 iw5 kw1",
                "convolution n1 ic1 oc1 ih7 iw7",
                "Another layer is shown. ShapeError: 2000",
            ),
            ("convolution n2 ic1 oc1 iw5 kw3", "convolution n1 ic1 oc1 iw5", "One image of the batch is shown."),
        )
    ):
        page = browser.new_page()
        page.goto(explore(line).save(tmp_path / f"{number}.html").as_uri())
        assert page.get_by_label("The layer as one line of text").input_value().startswith(start)
        assert note in page.locator(".told").text_content()
        assert page.locator(".refusal").text_content() == ""
        assert "reads" in page.locator(".where").text_content()
        page.close()


@pytest.mark.wide
def test_what_a_line_or_an_address_loses_is_said(page):
    told = page.locator(".told")
    enter_line(page, "convolution n2 ic1 oc1 iw9 kw3")
    assert told.text_content() == "One image of the batch is shown."
    line = page.get_by_label("The layer as one line of text").input_value()
    address = page.evaluate("location.href")
    page.evaluate("location.hash = '#kind=nothing'")
    page.wait_for_function("() => document.querySelector('.told').textContent.includes('address')")
    assert told.text_content() == "This address holds no layer; the last one is shown."
    assert page.get_by_label("The layer as one line of text").input_value() == line
    assert page.evaluate("location.href") == address
    page.select_option("#kind", "pointwise")
    assert told.text_content() == ""


DRAWN = """
async () => {
  const canvas = document.querySelector(".stage canvas");
  let count = 0;
  const { getContext } = canvas;
  canvas.getContext = (...words) => ((count += 1), getContext.apply(canvas, words));
  for (let i = 0; i < 20; i++) {
    canvas.dispatchEvent(new KeyboardEvent("keydown", { key: i % 2 ? "ArrowLeft" : "ArrowUp" }));
  }
  for (let i = 0; i < 200 && !count; i++) await new Promise(requestAnimationFrame);
  for (let i = 0; i < 3; i++) await new Promise(requestAnimationFrame);
  return count;
}
"""


@pytest.mark.wide
def test_many_keys_are_drawn_once(page):
    enter_line(page, "convolution ic16 oc16 ih32 iw32 kh3 kw3 pt1 pb1 pl1 pr1")
    assert page.locator(".refusal").text_content() == ""
    page.wait_for_timeout(300)
    assert page.evaluate(DRAWN) == 1
    enter_line(page, "convolution ic16 oc16 ih64 iw64 kh3 kw3")
    assert "need at most 16384 on this page" in page.locator(".refusal").text_content()


@pytest.mark.wide
def test_input_and_output_stand_side_by_side(page):
    stage, kernel = (page.locator(f".{name}").bounding_box() for name in ("stage", "kernel"))
    assert stage["y"] == kernel["y"]
    page.click("#tab-take-along")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save it as SVG").click()
    text = Path(saved.value.path()).read_text("utf-8")
    heights = {found[2]: found[1] for found in re.finditer(r'<text[^>]* y="([^"]*)"[^>]*>(input|output)<', text)}
    assert heights["input"] == heights["output"]


@pytest.mark.wide
def test_a_phone_shows_the_picture_before_the_settings(browser, file):
    context = browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True)
    page = context.new_page()
    page.goto(file.as_uri())
    tops = [page.locator(name).bounding_box()["y"] for name in (".line", ".see", "aside", ".tabs")]
    assert tops == sorted(tops)
    assert len(set(tops)) == 4
    context.close()


@pytest.mark.wide
def test_a_weight_its_input_and_its_product_are_framed_together(page):
    page.select_option("#kind", "dilated")
    assert page.locator(".terms .small").text_content() == "Dilation: taps stand 2 apart on h and w."
    met = page.locator(".term.met")
    box = page.get_by_label("weight 0, 1 of input channel 0")
    box.focus()
    assert met.count() == 1
    assert met.locator(".x").get_attribute("title") == "channel 0, row 2, column 4"
    assert page.locator(".weights .met").count() == 1
    page.locator(".term").nth(8).focus()
    assert page.locator(".weights .met").get_attribute("aria-label") == "weight 2, 2 of input channel 0"
    page.locator(".stage canvas").focus()
    assert page.locator(".met:not(.key)").count() == 0
    box.hover()
    assert met.count() == 1
    enter_line(page, "dilated ic1 oc1 id5 ih9 iw9 kd1 kh3 kw3 dd2 dh2 dw3")
    assert page.locator(".terms .small").text_content() == "Dilation: taps stand 2 apart on h, 3 apart on w."


@pytest.mark.wide
def test_what_is_known_of_dilated_transposed_layers(page):
    enter_line(page, "transposed ic1 oc1 iw4 kw1 sw2")
    page.locator(".stage canvas").focus()
    page.keyboard.press("ArrowRight")
    assert "0 of 4 positions. It is a hole: no tap reaches it." in page.locator("#panel-know").text_content()
    enter_line(page, "transposed ic1 oc1 ih4 iw4 kh3 kw3 sh2 sw2 dh2 dw2")
    assert page.get_by_role("button", name="Cure it: use a 4x4 kernel with dilation 1x1").is_visible()
    assert page.locator(".terms .small").text_content() == "Dilation: taps stand 2 apart on h and w of the output."


@pytest.mark.wide
def test_the_help_of_every_setting_can_be_read(page):
    page.locator("aside summary", has_text="What these mean").click()
    words = page.locator("aside .help")
    for name in ("in channels", "kernel size", "stride", "dilation", "padding"):
        assert words.locator("dt", has_text=name).first.is_visible()

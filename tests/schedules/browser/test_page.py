"""The page of a study as a browser shows it: rendered, sorted, filtered and pointed at by headless chromium.

    python -m pytest tests/schedules/browser

Scripts of a test are put into a copy of the page and leave what they found in its title.
"""

import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path

import numpy as np
import pytest
import study_samples as samples
from PIL import Image

from schedules import plot
from schedules.figures import style

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium to look at the page with")
WIDTH, HEIGHT = 1400, 3000  # the table takes three quarters of the height
DARK = ("--blink-settings=preferredColorScheme=0",)
ROWS = "[...document.querySelectorAll('tbody tr:not(.reason):not([hidden])')]"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    runs = samples.published(2)
    runs[-1] |= {"name": "</script><img src=x onerror=alert(1)>", "reason": '<b>bold</b> & "quoted"'}
    path = samples.write(folder / "study.csv", runs, count=30, conflicts=["<i>two</i> runs"])
    assert plot.main([str(path), "--out", str(folder), "--html", str(folder / "study.html")]) == 0
    return folder / "study.html"


def chromium(page: Path, *flags: str) -> str:
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
               f"--user-data-dir={page.parent / 'profile'}", f"--window-size={WIDTH},{HEIGHT}", "--virtual-time-budget=3000",
               "--host-resolver-rules=MAP * ~NOTFOUND", *flags, page.as_uri()]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def after(page: Path, script: str, *flags: str):
    """Return what a test's script finds in the page after it is shown."""
    changed = page.with_name("changed.html")
    text = page.read_text()
    run = f"<script>document.title = 'found ' + JSON.stringify((() => {{ {script} }})())</script></body>"
    changed.write_text(text.replace("</body>", run))
    title = re.search(r"<title>found (.*?)</title>", chromium(changed, "--dump-dom", *flags), re.DOTALL)
    return json.loads(unescape(title[1]))


def pixels(page: Path, *flags: str) -> np.ndarray:
    shot = page.with_name("shot.png")
    chromium(page, f"--screenshot={shot}", *flags)
    with Image.open(shot) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def painted(picture: np.ndarray, colour: str) -> int:
    wanted = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    return int((abs(picture - wanted).max(axis=2) <= 3).sum())


def test_rows_and_points_are_there(page):
    dom = chromium(page, "--dump-dom")
    assert dom.count("<tr data-group=") == 60 and len(re.findall("<tr[ >]", dom)) == 1 + 64 + 4  # reasons
    for kind in ("params", "mult_adds"):
        figure = re.search(f'<figure class="{kind}">.*?</figure>', dom, re.DOTALL)[0]
        assert len(re.findall('<g class="point"', figure)) == 30 and 'aria-label="Shuffle_4, taught' in figure
    assert "<img" not in dom and "<i>two</i>" not in dom and "&lt;i&gt;two&lt;/i&gt; runs" in dom
    assert "&lt;b&gt;bold&lt;/b&gt;" in dom.split("</tbody>")[0]


def test_points_are_painted_in_their_colours(page):
    light, dark = pixels(page), pixels(page, *DARK)
    for family in ("Shuffle", "ACDC", "SepHashedFull", "TensorTrain", "Tucker_x_4"):
        assert painted(light, style.look(family).colour) > 20, family
    assert painted(light, style.PAPER) > 0.7 * WIDTH * HEIGHT
    assert painted(dark, "#171716") > 0.7 * WIDTH * HEIGHT and painted(dark, style.PAPER) < 50
    assert painted(dark, style.look("ACDC").colour) < painted(light, style.look("ACDC").colour)


def test_every_point_lies_in_its_figure_and_none_has_been_scaled_away(page):
    found = after(page, """return [...document.querySelectorAll('.point')].map(point => {
        const box = point.getBoundingClientRect(), outer = point.closest('svg').getBoundingClientRect();
        return box.width > 3 && box.left >= outer.left && box.right <= outer.right && box.top >= outer.top && box.bottom <= outer.bottom; })""")  # fmt: skip
    assert len(found) >= 60 and all(found)


def click(title: str) -> str:
    return f"[...document.querySelectorAll('th button')].find(each => each.textContent === '{title}').click();"


def test_a_click_on_a_header_sorts(page):
    read = f"return {ROWS}.map(row => row.cells[5].textContent);"
    rising = after(page, click("test top-1 error, %") + read)
    falling = after(page, click("test top-1 error, %") * 2 + read)
    numbers = [float(text) for text in rising[:60]]
    assert numbers == sorted(numbers) and rising[60:] == ["–"] * 4  # what is missing stays below
    assert [float(text) for text in falling[:60]] == numbers[::-1] and falling[60:] == ["–"] * 4
    assert after(page, click("run") + "return document.querySelectorAll('th[aria-sort]').length") == 1
    names = after(page, click("run") + f"return {ROWS}.map(row => row.cells[0].firstChild.textContent)")
    assert names.index("Shuffle_4.student.0.10") < names.index("Shuffle_16.student.0.10")  # 4 before 16


def test_the_filter(page):
    script = "const filter = document.getElementById('filter'); filter.value = '%s'; filter.dispatchEvent(new Event('input'));"
    assert after(page, script % "shuffle taught" + f"return {ROWS}.length") == 10
    assert after(page, script % "no such run" + "return document.getElementById('count').textContent") == "0 of 64"
    assert after(page, script % "why it is diverged" + f"return {ROWS}[0].cells[1].textContent") == "diverged"


@pytest.mark.parametrize(
    "event", ["new MouseEvent('mouseenter')", "new FocusEvent('focus')"], ids=["pointer", "keyboard"]
)
def test_a_point_has_a_tooltip(page, event):
    script = f"""const point = document.querySelector('.params .point[aria-label^="Shuffle_4, taught"]');
        point.dispatchEvent({event});
        const tip = document.getElementById('tip'), box = tip.getBoundingClientRect();
        const lit = [...document.querySelectorAll('tr.lit')].map(row => row.cells[0].textContent);
        const inside = box.left >= 0 && box.right <= innerWidth && box.top >= 0 && box.bottom <= innerHeight && box.width > 100;
        const curve = tip.querySelector('.sparkline path').getAttribute('d').split('L').length;
        const text = tip.textContent;
        document.dispatchEvent(new KeyboardEvent('keydown', {{key: 'Escape'}}));
        return [text, lit, inside, curve, tip.hidden];"""
    text, lit, inside, curve, hidden = after(page, script)
    assert text.startswith("Shuffle_4") and re.search(r"\d\.\d\d ± \d\.\d\d %", text) and "824k" in text
    assert lit == ["Shuffle_4.student.0.10", "Shuffle_4.student.1.10"] and inside and curve == 30 and hidden


def test_a_row_shows_its_point(page):
    script = f"""const row = {ROWS}.find(row => row.textContent.startsWith('ACDC.student.0'));
        row.dispatchEvent(new MouseEvent('mouseenter'));
        const lit = document.querySelectorAll('.point.lit').length;
        row.dispatchEvent(new MouseEvent('mouseleave'));
        const left = document.querySelectorAll('.lit').length;
        row.querySelector('a').click();
        return [lit, left, document.activeElement.getAttribute('aria-label').slice(0, 12), document.getElementById('tip').hidden];"""
    assert after(page, script) == [3, 0, "ACDC, taught", False]  # in both trade-offs and the ablation


def test_narrow_pages_do_not_scroll_sideways(page):
    """In a frame, as no window of chromium is so narrow. The table has the columns that matter, its other columns when asked."""
    framed = page.with_name("framed.html")
    script = """const inside = document.querySelector('iframe').contentDocument, box = inside.querySelector('.scroll');
        const sizes = [...inside.querySelectorAll('body *')].filter(each => each.textContent && each.getClientRects().length);
        const drawn = [...inside.querySelectorAll('.params .label text')].map(each => each.getBoundingClientRect().height);
        const least = Math.min(...sizes.filter(each => !each.closest('svg')).map(each => parseFloat(getComputedStyle(each).fontSize)));
        const found = [inside.documentElement.scrollWidth, box.scrollWidth - box.clientWidth, least, Math.min(...drawn)];
        inside.getElementById('whole').click();
        return [...found, box.scrollWidth - box.clientWidth, inside.documentElement.scrollWidth];"""
    for width in (800, 400):
        frame = (
            f'<iframe style="border: 0; width: {width}px; height: 900px" srcdoc="{escape(page.read_text())}"></iframe>'
        )
        load = f"onload = () => {{ document.title = 'found ' + JSON.stringify((() => {{ {script} }})()); }}"
        framed.write_text(f"<!DOCTYPE html><title></title><script>{load}</script><body>{frame}</body>")
        dom = chromium(framed, "--dump-dom")
        scroll, hidden, letters, drawn, all_hidden, all_scroll = json.loads(
            re.search("<title>found (.*?)</title>", dom)[1]
        )
        assert max(scroll, all_scroll) <= width and letters >= 12 and drawn > 12
        assert hidden < 100 < all_hidden - hidden if width == 400 else all_hidden == hidden, (hidden, all_hidden)


def test_the_table_is_as_wide_as_the_page_and_names_break_at_joints_only(page):
    script = """const box = document.querySelector('.scroll'), spans = [...document.querySelectorAll('td.wide span')];
        return [box.scrollWidth - box.clientWidth, spans.every(each => each.getClientRects().length === 1),
                [...document.querySelectorAll('th')].map(each => each.textContent), document.getElementById('summary').textContent]"""
    wider, whole, titles, summary = after(page, script, "--window-size=1300,900")
    assert wider == 0 and whole and "In all: CRS ratio 0.0200, bytes 2M, time 83.3 min, cifar10, WideResNet." in summary
    assert {"taught", "parameters", "mean ± std"} <= set(titles) and not {"dataset", "network"} & set(titles)
    told = after(page, "return [...document.querySelectorAll('tr.reason')].map(each => each.offsetWidth / document.querySelector('table').offsetWidth)")  # fmt: skip
    assert len(told) == 4 and min(told) > 0.98


def test_what_a_run_is_compared_with_has_columns_and_is_in_tooltips(tmp_path):
    """The teacher's parameters and error, the published error, what is left, and the time; numbers sort as numbers."""
    beside = dict(
        percent_of_teacher_params=1.5228,
        gap_to_teacher=-0.5,
        gap_to_teacher_verdict="told apart",
        active_parameters=1234,
    )
    ranges = {f"published_{end}_test_top1_error": value for end, value in (("min", 3.3), ("max", 4.2))}
    times = {"latency_ms_128": 15.14, "latency_on": "this CPU", "active_fraction": 0.01, "active_mult_adds": 1e6}
    runs = [
        samples.run("Conv", 3.8, taught=False, name="the.teacher", params=5e7),
        samples.run("ACDC", 5, **beside, **ranges, **times),
    ]
    path = samples.write(tmp_path / "study.csv", runs)
    assert plot.main([str(path), "--out", str(tmp_path), "--html", str(tmp_path / "study.html")]) == 0
    script = f"""const point = document.querySelector('.params .point[aria-label^="ACDC"]');
        point.dispatchEvent(new MouseEvent('mouseenter'));
        const row = {ROWS}.find(row => row.textContent.startsWith('ACDC'));
        const titles = [...document.querySelectorAll('th')].map(each => each.textContent);
        return [Object.fromEntries(titles.map((title, place) => [title, row.cells[place].textContent])),
                document.getElementById('tip').textContent, document.getElementById('summary').textContent];"""
    cells, tip, summary = after(tmp_path / "study.html", script)
    shown = {
        "published error": "3.3 to 4.2", "taught − teacher": "−0.50, told apart", "of the teacher’s parameters": "1.52 %",
        "parameters not 0": "1,234", "inference ms, batch of 128": "15.1",
    }  # fmt: skip
    assert cells | shown == cells and "lossless CIFAR-10" in summary
    for words in (
        "of the teacher's parameters1.52 %",
        "published error3.3 to 4.2 %",
        "−0.50, told apart",
        "ms, batch 128",
    ):
        assert words in tip.replace("-0.50", "−0.50")


def test_nothing_is_wrong_or_fetched(page):
    script = """return [performance.getEntriesByType('resource').length, [...document.querySelectorAll('[id]')].map(each => each.id)]"""
    fetched, ids = after(page, script)
    assert fetched == 0 and len(ids) == len(set(ids))

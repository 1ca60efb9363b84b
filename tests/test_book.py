"""The tiny book, built with warnings as errors and read by a real browser."""

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[1]
LOOK = """
const blank = (img) => {
  const canvas = document.createElement('canvas');
  canvas.width = 64; canvas.height = 64;
  const pen = canvas.getContext('2d');
  pen.drawImage(img, 0, 0, 64, 64);
  const pixels = pen.getImageData(0, 0, 64, 64).data;
  return new Set(new Uint32Array(pixels.buffer)).size < 3;
};
const isShown = (node) => node.checkVisibility({visibilityProperty: true, opacityProperty: true});
const images = [...document.querySelectorAll('.bd-content img')];
const solutions = [...document.querySelectorAll('.bd-content div.solution')];
return {
  title: document.title,
  images: images.map(i => ({src: i.src, alt: i.getAttribute('alt'),
                            width: i.naturalWidth, blank: i.naturalWidth ? blank(i) : true})),
  equations: document.querySelectorAll('.bd-content .math').length,
  drawn: document.querySelectorAll('.bd-content .math mjx-container').length,
  rawTex: [...document.querySelectorAll('.bd-content .math')]
    .filter(m => /\\\\\\(|\\\\\\[|\\$\\$/.test(m.innerText)).length,
  badEquations: document.querySelectorAll('mjx-merror').length,
  solutions: solutions.length,
  openSolutions: solutions.filter(
    s => [...s.querySelectorAll(':scope > :not(.admonition-title)')].some(isShown)).length,
  banner: (document.querySelector('.bd-header-announcement') || {}).innerText,
  wide: document.documentElement.scrollWidth - window.innerWidth,
};
"""


@pytest.fixture(scope="session")
def book(tiny_home, tmp_path_factory):
    """Folder with the source and the html of the tiny book, built once."""
    out = tmp_path_factory.mktemp("book")
    command = [sys.executable, "workflow/stage_book.py", "--study", "tiny"]
    command += ["--home", str(tiny_home), "--out", str(out)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    assert done.stdout.rstrip().endswith("index.html")
    return out


@pytest.fixture(scope="session")
def docnames(book):
    """Every page of the staged table of contents."""
    toc = yaml.safe_load((book / "source" / "_toc.yml").read_text())
    entries = [entry for part in toc["parts"] for entry in part["chapters"]]
    below = [child for entry in entries for child in entry.get("sections", [])]
    return [toc["root"], *(entry["file"] for entry in entries + below)]


@pytest.fixture(scope="session")
def address(book):
    """Loopback address of the book."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    handler = functools.partial(Quiet, directory=str(book / "html"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """Headless Chromium; without one the tests are skipped, but fail in CI."""
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next(filter(None, map(shutil.which, names)), None)
    driver = shutil.which("chromedriver")
    if not (chromium and driver):
        reason = "chromium and chromedriver are needed to read the book"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    started = start_browser(chromium, driver, tmp_path_factory.mktemp("chromium"))
    yield started
    started.quit()


def start_browser(chromium, driver, profile):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    switches = ["headless=new", "no-sandbox", "disable-gpu", "disable-background-networking"]
    switches += ["disable-component-update", "disable-sync", "no-first-run", "window-size=1200,900"]
    switches += ["disable-dev-shm-usage", f"user-data-dir={profile}"]
    for switch in switches:
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    service = webdriver.ChromeService(driver)
    return webdriver.Chrome(options=options, service=service)


@pytest.fixture(scope="session")
def pages(browser, address, docnames):
    """What the browser saw on each page: figures, equations, requests, console errors."""
    return {name: visit(browser, f"{address}/{name}.html") for name in docnames}


def visit(browser, url):
    import json

    browser.get(url)
    browser.execute_async_script(
        "const done = arguments[0]; const math = window.MathJax && MathJax.startup;"
        "Promise.resolve(math && math.promise).then(() => setTimeout(done, 100));"
    )
    seen = browser.execute_script(LOOK)
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    seen["requests"] = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    seen["errors"] = [e["message"] for e in browser.get_log("browser") if e["level"] == "SEVERE"]
    return seen


def test_every_page_of_the_contents_was_built_and_no_other(book, docnames):
    built = {
        path.relative_to(book / "html").with_suffix("").as_posix()
        for folder in ("book", "notebooks")
        for path in (book / "html" / folder).glob("*.html")
    }
    assert built | {"genindex"} == set(docnames)
    assert len(docnames) == len(set(docnames))


class Links(HTMLParser):
    """Links and anchors of one page."""

    def __init__(self, path):
        super().__init__()
        self.targets, self.anchors = set(), set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        told = dict(attributes)
        self.anchors |= {told[key] for key in ("id", "name") if told.get(key)}
        self.targets |= {told[key] for key in ("href", "src") if told.get(key)}


@pytest.fixture(scope="session")
def links(book):
    """Links and anchors of every page, by path; search and the like included."""
    folder = book / "html"
    found = [*folder.glob("*.html"), *folder.glob("book/*.html"), *folder.glob("notebooks/*.html")]
    return {path.relative_to(folder).as_posix(): Links(path) for path in found}


def test_every_link_inside_the_book_leads_somewhere(book, links):
    dead, seen = set(), 0
    for page, found in links.items():
        for target in found.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc or target in ("#", ""):
                continue
            path, seen = urljoin(page, unquote(parts.path)) if parts.path else page, seen + 1
            anchor = unquote(parts.fragment)
            if not (book / "html" / path).is_file():
                dead.add((page, target))
            elif anchor and path in links and anchor not in links[path].anchors:
                dead.add((page, target))
    assert seen > 500
    assert not dead


def test_links_to_the_outside_are_whole_and_listed(book, links):
    schemes = ("http", "https", "mailto", "data", "javascript")
    targets = {target for found in links.values() for target in found.targets}
    outside = sorted(target for target in targets if urlsplit(target).scheme)
    assert not [target for target in outside if urlsplit(target).scheme not in schemes]
    web = [target for target in outside if urlsplit(target).scheme in ("http", "https")]
    assert web and all(urlsplit(target).hostname and " " not in target for target in web)
    (book / "outside-links.txt").write_text("\n".join(web) + "\n")  # nothing is fetched


def test_the_index_leads_to_the_words_of_the_glossary(links):
    words = {"AIF", "Tmax", "GAN", "PatchGAN", "penumbra", "mismatch", "bootstrap", "fine-tuning"}
    into = {t for t in links["genindex.html"].targets if t.startswith("book/glossary.html#term-")}
    assert {f"book/glossary.html#term-{word}" for word in words} <= into
    for page in ("notebooks/01_bolus.html", "book/networks.html", "book/intro.html"):
        assert [t for t in links[page].targets if "glossary.html#term-" in t], page


def test_the_book_offers_its_figures_as_one_file(book, links):
    target = next(t for t in links["book/teaching.html"].targets if t.endswith("figures.zip"))
    with zipfile.ZipFile(book / "html" / urljoin("book/teaching.html", target)) as pack:
        names = pack.namelist()
        captions = pack.read("captions.md").decode()
        pictures = [pack.read(name) for name in names if name.endswith(".png")]
    assert all(f"`{name}`: " in captions for name in names if name != "captions.md")
    assert len(pictures) > 20 and all(picture.startswith(b"\x89PNG") for picture in pictures)
    for chapter in ("01_bolus", "05_train", "08_compare"):
        assert f"{chapter}/{chapter}-01.png" in names


def test_no_two_pages_share_a_title(pages):
    titles = [seen["title"] for seen in pages.values()]
    assert len(titles) == len(set(titles))


def test_figures_have_pixels(pages):
    images = [image for seen in pages.values() for image in seen["images"]]
    assert images
    assert not [image["src"] for image in images if image["width"] == 0 or image["blank"]]


def test_figures_have_alternative_text(pages):
    bad = [
        (name, image["src"])
        for name, seen in pages.items()
        for image in seen["images"]
        if image["alt"] is None or image["alt"].endswith((".png", ".svg"))
    ]
    assert not bad


def test_chapters_hold_figures(pages):
    chapters = (
        "01_bolus",
        "02_deconvolution",
        "11_phantom",
        "03_pix2pix",
        "04_prepare",
        "05_train",
        "07_evaluate",
        "08_compare",
        "09_worst_cases",
        "10_no_aif",
    )
    assert all(pages[f"notebooks/{chapter}"]["images"] for chapter in chapters)


def test_equations_are_drawn(pages):
    assert pages["book/notation"]["equations"] > 0
    undrawn = {
        name: (seen["equations"], seen["drawn"])
        for name, seen in pages.items()
        if seen["rawTex"] or seen["badEquations"] or seen["drawn"] < seen["equations"]
    }
    assert not undrawn


def test_no_request_leaves_the_machine(pages, address):
    ours = (address, "data:", "blob:", "about:", "chrome://")
    requests = {url for seen in pages.values() for url in seen["requests"]}
    assert any(url.startswith(address) for url in requests)
    assert not [url for url in requests if not url.startswith(ours)]


def test_no_javascript_error(pages):
    assert not {name: seen["errors"] for name, seen in pages.items() if seen["errors"]}


def test_solutions_are_hidden_and_open_on_click(pages, browser, address):
    with_solutions = [name for name, seen in pages.items() if seen["solutions"]]
    assert with_solutions
    assert not [name for name in with_solutions if pages[name]["openSolutions"]]
    browser.get(f"{address}/{with_solutions[0]}.html")
    browser.execute_script("document.querySelector('div.solution .toggle-button').click()")
    assert browser.execute_script(LOOK)["openSolutions"] == 1


def test_films_scroll_without_a_kernel(pages, browser, address):
    browser.get(f"{address}/notebooks/11_phantom.html")
    seen = browser.execute_script("""
        const box = document.querySelector('figure.scroller'), bar = box.querySelector('input');
        const state = () => [box.querySelector('output').value,
                             box.querySelector('img').style.transform];
        const before = state(); bar.value = 9; bar.dispatchEvent(new Event('input'));
        const after = state();
        box.querySelector('div').dispatchEvent(new WheelEvent('wheel', {deltaY: 1}));
        return [before, after, state()];
    """)
    assert all(text.endswith(" s") and "translateY" in moved for text, moved in seen)
    assert len({text for text, _ in seen}) == len({moved for _, moved in seen}) == 3
    in_the_dark = browser.execute_script("""
        document.documentElement.dataset.theme = 'dark';
        const image = document.querySelector('figure.scroller img');
        return [image, image.closest('.text_html')].map(
            node => [getComputedStyle(node).padding, getComputedStyle(node).backgroundColor]);
    """)
    assert in_the_dark == 2 * [["0px", "rgba(0, 0, 0, 0)"]]  # no frame, no light box


def test_sliders_move_by_key_and_say_so_on_a_page_of_moderate_size(book, browser, address):
    for chapter, expected in (("01_bolus", 3), ("02_deconvolution", 4)):
        page = book / "html" / "notebooks" / f"{chapter}.html"
        assert page.stat().st_size < 4e6
        browser.get(f"{address}/notebooks/{chapter}.html")
        boxes = browser.find_elements("css selector", "figure.frames")
        assert len(boxes) == expected
        for box in boxes:
            image = box.find_element("css selector", "img")
            for bar in box.find_elements("css selector", "input"):
                before = [image.get_attribute(name) for name in ("src", "alt")]
                bar.send_keys("\ue014")  # arrow right
                after = [image.get_attribute(name) for name in ("src", "alt")]
                assert before[0] != after[0] and before[1] != after[1]
                word = bar.find_element("xpath", "../output").text
                assert word == bar.get_attribute("aria-valuetext") and word in after[1]


def test_every_page_names_its_study(pages):
    assert all("tiny" in (seen["banner"] or "") for seen in pages.values())


def test_pages_fit_on_a_phone(browser, address, docnames):
    too_wide = {}
    browser.set_window_size(500, 900)
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    for name in docnames:
        browser.get(f"{address}/{name}.html")
        wide = browser.execute_script(LOOK)["wide"]
        if wide > 1:
            too_wide[name] = wide
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert not too_wide


def test_plain_build_in_a_fresh_clone_names_make_book(tmp_path):
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(PROJECT / name, tmp_path)
    for name in ("book", "notebooks"):
        shutil.copytree(PROJECT / name, tmp_path / name)
    start = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", start, "build", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr
    assert [line for line in done.stderr.splitlines() if "make book" in line]
    assert len(done.stderr.strip().splitlines()) == 1

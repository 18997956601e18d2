"""The OHIF viewer in a real browser opens a study that nginx serves from the tree, and shows its image."""

from __future__ import annotations

import base64
import io
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy
import pytest
from datasets import of_kind
from mkdicomweb import create
from nginx_server import Nginx
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from servers import stop
from static_server import Server

# What `make` unpacked of the package @ohif/app.
OHIF = Path(os.environ.get("OHIF_DIST", Path(__file__).parents[3] / ".cache/ohif/package/dist"))
# Its tour for who comes first breaks off, and the page with it, where the viewport isn't there yet when it begins.
CONFIG = """
window.localStorage.setItem('shownTours', '["basicViewerTour"]');
const address = window.location.origin + '/static-dicomweb';
window.config = {
  routerBasename: '/',
  extensions: [],
  modes: [],
  showStudyList: true,
  useCPURendering: true,
  maxNumberOfWebWorkers: 2,
  showErrorDetails: 'always',
  defaultDataSourceName: 'static',
  dataSources: [{
    namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
    sourceName: 'static',
    configuration: {
      friendlyName: 'static DICOMweb', name: 'static',
      qidoRoot: address, wadoRoot: address, wadoUriRoot: address,
      qidoSupportsIncludeField: true, supportsReject: false, imageRendering: 'wadors', thumbnailRendering: 'wadors',
      enableStudyLazyLoad: true, supportsFuzzyMatching: true, supportsWildcard: true, bulkDataURI: {enabled: true},
      omitQuotationForMultipartRequest: true,
    },
  }],
};
"""


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--window-size=1400,900",
        f"--user-data-dir={tmp_path}/profile",
    ):
        options.add_argument(argument)
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    yield made
    made.quit()


def image_of(browser: webdriver.Chrome) -> Image.Image | None:
    """Return what the viewer has drawn, the square in the middle of its viewport; None where it has none yet."""
    found = browser.find_elements(By.CSS_SELECTOR, "canvas.cornerstone-canvas")
    if not found or not found[0].size["width"]:
        return None
    drawn = browser.execute_script("return arguments[0].toDataURL('image/png')", found[0])
    picture = Image.open(io.BytesIO(base64.b64decode(drawn.partition(",")[2]))).convert("L")
    width, height = picture.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return picture.crop((left, top, left + side, top + side))


def likeness(shown: Image.Image | None, pixels: numpy.ndarray) -> float:
    """Return how much a picture is like pixels: 1 for the same but for window and size, 0 for anything."""
    if shown is None or len(shown.getcolors()) < 2:
        return 0.0
    small = numpy.asarray(shown.resize(pixels.shape[::-1]), dtype=float)
    return float(numpy.corrcoef(small.ravel(), pixels.ravel())[0, 1])


def opened(browser: webdriver.Chrome, url: str, is_shown: Callable[[], bool]) -> bool:
    """Open a page of the viewer, and return whether it comes to show something.

    On a busy machine the viewer's own code may meet an error while it begins, and takes the page away, or leaves the viewport black
    beside a thumbnail that is there: it is opened again, as a reader would, and waited for longer.
    """
    for patience in (45, 90, 180):
        browser.get(url)
        given_up = time.monotonic() + patience
        while time.monotonic() < given_up:
            if is_shown():
                return True
            time.sleep(1)
    return False


def test_it_shows_a_study(browser: webdriver.Chrome, tmp_path: Path) -> None:
    assert (OHIF / "index.html").exists(), "make unit fetches the viewer"
    instance = of_kind("ct", tmp_path)
    root = tmp_path / "tree"
    assert create(root, instance.path).exit_code == 0
    (tmp_path / "app-config.js").write_text(CONFIG)
    server = Server(root, tmp_path / "log", "--read-only")
    nginx = Nginx(tmp_path, root, server=server.url.removesuffix("/static-dicomweb"), viewer=str(OHIF))
    try:
        pixels = instance.dataset.pixel_array.astype(float)
        viewer = f"{nginx.url}/viewer?StudyInstanceUIDs={instance.dataset.StudyInstanceUID}"
        is_drawn = opened(browser, viewer, lambda: likeness(image_of(browser), pixels) > 0.8)
        browser.save_screenshot(str(tmp_path / "ohif.png"))
        assert is_drawn, f"{tmp_path}/ohif.png; {browser.get_log('browser')[-5:]}"
        is_listed = opened(browser, nginx.url, lambda: instance.dataset.PatientID in browser.page_source)
        assert is_listed, browser.get_log("browser")[-5:]
    finally:
        nginx.stop()
        stop(server.process, server.log)

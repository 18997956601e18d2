"""The OHIF viewer in a real browser, for the tests."""

from __future__ import annotations

import base64
import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy
from datasets import Instance
from nginx_server import Nginx
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By

# What `make` unpacked of the package @ohif/app.
OHIF = Path(os.environ.get("OHIF_DIST", Path(__file__).parents[2] / ".cache/ohif/package/dist"))
# Its tour for who comes first breaks off, and the page with it, where the viewport isn't there yet when it begins.
CONFIG = """
window.localStorage.setItem('shownTours', '["basicViewerTour"]');
const address = window.location.origin + '%(root)s';
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


@contextmanager
def browser(directory: Path) -> Iterator[webdriver.Chrome]:
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
        f"--user-data-dir={directory}/profile",
    ):
        options.add_argument(argument)
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    try:
        yield made
    finally:
        made.quit()


def image_of(viewer: webdriver.Chrome) -> Image.Image | None:
    """Return what the viewer has drawn, the square in the middle of its viewport; None where it has none yet."""
    found = viewer.find_elements(By.CSS_SELECTOR, "canvas.cornerstone-canvas")
    if not found or not found[0].size["width"]:
        return None
    drawn = viewer.execute_script("return arguments[0].toDataURL('image/png')", found[0])
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


def opened(viewer: webdriver.Chrome, url: str, is_shown: Callable[[], bool]) -> bool:
    """Open a page of the viewer, and return whether it comes to show something.

    On a busy machine the viewer's own code may meet an error while it begins, and takes the page away, or leaves the viewport black
    beside a thumbnail that is there: it is opened again, as a reader would, and waited for longer.
    """
    for patience in (45, 90, 180):
        viewer.get(url)
        given_up = time.monotonic() + patience
        while time.monotonic() < given_up:
            if is_shown():
                return True
            time.sleep(1)
    return False


def configure(directory: Path, root: str) -> None:
    """Write the viewer's settings, for a DICOMweb server below `root` at its own address."""
    assert (OHIF / "index.html").exists(), "make unit fetches the viewer"
    (directory / "app-config.js").write_text(CONFIG % {"root": root})


def shows(nginx: Nginx, instance: Instance, directory: Path) -> None:
    """Fail unless the viewer shows the image of a study, and lists the patient."""
    pixels = instance.dataset.pixel_array.astype(float)
    study = f"{nginx.url}/viewer?StudyInstanceUIDs={instance.dataset.StudyInstanceUID}"
    with browser(directory) as viewer:
        is_drawn = opened(viewer, study, lambda: likeness(image_of(viewer), pixels) > 0.8)
        viewer.save_screenshot(str(directory / "ohif.png"))
        assert is_drawn, f"{directory}/ohif.png; {viewer.get_log('browser')[-5:]}"
        patient = instance.dataset.PatientID
        is_listed = opened(viewer, f"{nginx.url}/?mrn={patient}", lambda: f">{patient}<" in viewer.page_source)
        assert is_listed, viewer.get_log("browser")[-5:]

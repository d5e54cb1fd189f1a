"""A page of a real browser, every request it made and all that went wrong on it."""

from io import BytesIO

import numpy as np
from drawn_view import WENO
from PIL import Image
from playwright.sync_api import Page

CENTER = """([x, y]) => {
  const point = viewer.stage.viewer.viewport.imageToViewerElementCoordinates(new OpenSeadragon.Point(x, y));
  const box = viewer.stage.viewer.canvas.getBoundingClientRect();
  return [point.x + box.left, point.y + box.top];
}"""
"""Where OpenSeadragon itself puts a level-0 pixel, in pixels of the window."""
OVERLAY_COLORS = """(points) => {
  const {width, height} = viewer.stage.overlay;
  const canvas = Object.assign(document.createElement("canvas"), {width, height});
  const copy = canvas.getContext("2d", {willReadFrequently: true});
  copy.drawImage(viewer.stage.overlay, 0, 0);
  return points.map(([x, y]) => {
    const at = viewer.stage.viewer.viewport.imageToViewerElementCoordinates(new OpenSeadragon.Point(x, y));
    const pixel = [...copy.getImageData(Math.floor(at.x), Math.floor(at.y), 1, 1).data];
    const digits = pixel.slice(0, 3).map((part) => part.toString(16).padStart(2, "0"));
    return pixel[3] === 255 ? "#" + digits.join("") : null;
  });
}"""
"""Colors of the overlay where OpenSeadragon puts level-0 pixels; null where it is bare."""
READY = """(wanted) => {
  const id = document.documentElement.dataset.ready;
  if (!id || (wanted !== null && id !== wanted)) return false;
  const world = viewer.stage.viewer.world;
  return !viewer.stage.isOpen || (world.getItemCount() > 0 && world.getItemAt(0).getFullyLoaded());
}"""
"""The wanted slide (null: any) stands there with its scores and all image tiles of the view."""


class Watched:
    """A page, every request it made, and all that went wrong on it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.requests: list[str] = []
        self.faults: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("requestfailed", self._failed)
        page.on("response", lambda answer: self._fault(answer.status >= 400, f"{answer.status} {answer.url}"))
        page.on("console", lambda said: self._fault(said.type in {"error", "warning"}, said.text))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("dialog", lambda dialog: (self.faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))

    def open(self, url: str, slide_id: str | None = None) -> Page:
        """Open the viewer at an address; waits until the slide (any: None) stands there with its scores."""
        self.page.goto(url)
        self.ready(slide_id)
        return self.page

    def ready(self, slide_id: str | None = None) -> None:
        """Wait for a slide, its scores and all image tiles of the view."""
        self.page.wait_for_function(READY, arg=slide_id)

    def pixels(self, selector: str = "#slide") -> np.ndarray:
        """A screenshot as (height, width, 3)."""
        self.page.mouse.move(2, 2)
        image = Image.open(BytesIO(self.page.locator(selector).screenshot())).convert("RGB")
        return np.asarray(image).astype(int)

    def _failed(self, request) -> None:
        """Tiles of a view that was left are called off: that is no fault."""
        self._fault(request.failure != "net::ERR_ABORTED", f"{request.failure} {request.url}")

    def _fault(self, is_one: bool, text: str) -> None:
        if is_one:
            self.faults.append(text)


def answers(page: Page, path: str):
    """What the server says, asked with the page's own cookie."""
    return page.evaluate("(path) => fetch(path).then((answer) => answer.json())", path)


def scores_of(page: Page, model: str = WENO.key):
    """Tile scores of the slide that is shown."""
    index = page.evaluate("viewer.slide.index")
    return answers(page, f"api/slides/{index}/scores?model={model}")

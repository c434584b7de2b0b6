"""A film to scrub through: one picture per epoch and a slider, without a kernel.

It is one block of HTML with an ``<input type="range">``, the pictures as data and a few lines of script.
Linked ipywidgets would do the same, but a static page then loads require.js and the widget manager from other
hosts, and their pictures have no alternative text. This block loads nothing: it works on the pages of the
book, offline, in Jupyter and on Colab. Where scripts are not run, the picture of the start remains.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from IPython.display import HTML
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

Panels = Figure | Sequence[Figure]
"""A frame: a figure, or several that stand side by side where there is room, else below each other."""

_PIXELS_PER_INCH = 96
_SHARPNESS = 1.25
_SHADES = 8
_SHRINK = 0.85

_BLOCK = """\
<div data-scrubber="{key}" data-lm-suppress-shortcuts="true" style="max-width: {room}px; margin: auto;
 padding: 0.25em; background: white; color: #222222; color-scheme: light">
<p style="margin: 0; font-variant-numeric: tabular-nums">{caption}</p>
<input type="range" min="1" max="{total}" value="{number}" aria-label="{unit}" autocomplete="off" hidden
 style="width: 100%; height: 2em; margin: 0; cursor: pointer">
<div style="display: flex; flex-wrap: wrap; justify-content: center; align-items: center">
{images}
</div>
</div>
<script>
(() => {{
  const frames = {frames};
  for (const root of document.querySelectorAll('[data-scrubber="{key}"]')) {{
    const [caption, slider, ...images] = root.querySelectorAll("p, input, img");
    const show = () => {{
      caption.textContent = `${{slider.ariaLabel}} ${{slider.value}} of ${{slider.max}}`;
      slider.setAttribute("aria-valuetext", caption.textContent);
      images.forEach((image, panel) => Object.assign(image, frames[slider.value - 1][panel]));
    }};
    slider.oninput = show;
    slider.hidden = false;
    show();
  }}
}})();
</script>
"""
_IMAGE = """\
<img src="{src}" alt="{alt}"
 style="flex: 1 1 {basis}px; min-width: 0; max-width: min(100%, {width}px); height: auto;
 padding: 0; background: none; filter: none">"""


def scrubber(
    frames: Iterable[Panels], alt_texts: Iterable[str | Sequence[str]], *, unit: str = "epoch", start: int = 1
) -> HTML:
    """Show one frame at a time, chosen by a slider that the arrow keys move as well.

    Each figure becomes a picture of few colours, at its size in inches; 80 frames of two panels take less
    than 2 MB.

    Args:
        frames: figures of equal sizes, or for each frame several; an iterator saves memory.
        alt_texts: for each frame its description, or those of its panels.
        unit: what is counted, from 1: "epoch 12 of 80".
        start: number of the frame that is shown first.

    Raises:
        ValueError: there is no frame, the start is none of them, or descriptions are missing, empty or too
            many.
    """
    pictures, texts = [_pictures(frame) for frame in frames], [_as_list(text) for text in alt_texts]
    if not pictures:
        raise ValueError("nothing to show: give at least one frame")
    if not 1 <= start <= len(pictures):
        raise ValueError(f"start must be a frame from 1 to {len(pictures)}, got {start}")
    shapes = [len(panels) for panels in pictures], [len(panels) for panels in texts]
    if shapes[0] != shapes[1] or not all(text for panels in texts for text in panels):
        raise ValueError(
            f"every picture needs a description: {sum(shapes[0])} pictures in {len(pictures)} frames, "
            f"{sum(bool(text) for panels in texts for text in panels)} descriptions in {len(texts)}"
        )
    shown = [
        [{"src": src, "alt": alt} for (src, _), alt in zip(*frame, strict=True)]
        for frame in zip(pictures, texts, strict=True)
    ]
    images = [
        _IMAGE.format(src=src, alt=html.escape(alt), width=width, basis=round(_SHRINK * width))
        for (src, width), alt in zip(pictures[start - 1], texts[start - 1], strict=True)
    ]
    data = json.dumps(shown, ensure_ascii=False).replace("<", "\\u003c")
    return HTML(
        _BLOCK.format(
            key=hashlib.sha256(data.encode()).hexdigest()[:12],
            caption=html.escape(f"{unit} {start} of {len(shown)}"),
            unit=html.escape(unit),
            total=len(shown),
            number=start,
            images="\n".join(images),
            frames=data,
            room=sum(width for _, width in pictures[start - 1]),
        )
    )


def _as_list(one_or_several: Any) -> list[Any]:
    return [one_or_several] if isinstance(one_or_several, Figure | str) else list(one_or_several)


def _pictures(frame: Panels) -> list[tuple[str, int]]:
    """For each panel a data URL and its width in CSS pixels."""
    return [(_webp(figure), round(figure.get_figwidth() * _PIXELS_PER_INCH)) for figure in _as_list(frame)]


def _webp(figure: Figure) -> str:
    """The figure as a data URL: WebP without loss, but for the few shades that each colour is rounded to."""
    before = figure.dpi
    figure.set_dpi(_PIXELS_PER_INCH * _SHARPNESS)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    figure.set_dpi(before)
    step = 255 / (_SHADES - 1)
    colours = np.round(np.round(np.asarray(canvas.buffer_rgba())[..., :3] / step) * step)
    file = io.BytesIO()
    Image.fromarray(colours.astype(np.uint8)).save(file, "WEBP", lossless=True, quality=100)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"

"""The page that a person reads: one HTML file that holds its tables, figures and clips."""

import base64
import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np

from nuclear_diffusion.files import atomic
from nuclear_diffusion.io import write_video
from nuclear_diffusion.measure import figures, results
from nuclear_diffusion.measure.measures import LEVELS
from nuclear_diffusion.measure.results import Cells, Results
from nuclear_diffusion.measure.statistics import SCORES
from nuclear_diffusion.measure.study import HAZY, Study
from nuclear_diffusion.measure.style import save, title_of
from nuclear_diffusion.restore.pictures import side_by_side

CAPTIONS = {
    "comparison": "As the paper's Fig. 3: one frame of each chosen patient and, below it, the square midway between "
    "the two regions, which are outlined in the input (yellow septum, blue ventricle). The frame is the middle one of "
    "those with masks; its scores stand below.",
    "boxes": "As the paper's Fig. 4: each dot a patient, boxes from the lower to the upper quartile with the median, "
    "whiskers at 5 and 95 %; the diamond and the number above are the mean over all frames.",
    "tradeoff": "Contrast against tissue preserved, means over patients with 95 % intervals. Large marks: the settings "
    "of the tables; curves: the same method at other strengths. Compare methods at equal KS, not at one setting each.",
    "motion": "As the paper's Fig. 2: change of the tissue against how still the input is, in bins of about as many "
    "frames each, with 95 % intervals over patients where a bin has at least two, and the number of frames in each. A "
    "frame whose predecessor is missing has no motion level.",
    "intensities": "Cumulative intensities: what KS measures is the greatest vertical distance from the input's curve. "
    "Each clip counts the same.",
    "singular_values": "What the low-rank model sees in the clip of the median patient: the singular values of input, "
    "background and signal within the sector.",
}
"""The figures in the order of the page, and what they show."""


def write_report(
    study: Study,
    found: Results,
    folder: Path,
    *,
    command: str,
    notes: Sequence[str] = (),
    clean: np.ndarray | None = None,
) -> Path:
    """Write the figures (`figures/*.pdf`, `.png`), clips (`clips/*.mp4`) and `report.html`; return the page's path.

    Args:
        study, found: the numbers.
        folder: where to write.
        command: what makes this report again.
        notes: what the reader must know of the data, one sentence each.
        clean: histogram of clean clips, (256,), where there are any.
    """
    chosen = figures.choose_patients(study)
    drawn = {
        "comparison": figures.draw_comparison(study, chosen),
        "boxes": figures.draw_boxes(study),
        "tradeoff": figures.draw_tradeoff(study),
        "motion": figures.draw_motion(study),
        "intensities": figures.draw_intensities(study, clean),
        "singular_values": figures.draw_singular_values(study, chosen[0].case),
    }
    blocks = []
    for name, text in CAPTIONS.items():
        figure = drawn[name]
        if figure is not None:
            save(figure, folder / "figures" / name)
            picture = embed(folder / "figures" / f"{name}.png", "image/png")
            width = round(96 * 1.3 * figure.get_figwidth())
            blocks.append(
                f'<figure><img src="{picture}" width="{width}" alt="{escape(text)}">'
                f"<figcaption>{escape(text)}</figcaption></figure>"
            )
    clips = []
    for one in chosen:
        path = folder / "clips" / f"{one.rule.replace(' ', '-')}.mp4"
        write_clip(study, one, path)
        words = f"{one.rule}: {one.case.name}, gCNR {one.gain:+.3f} by {title_of(figures.focus(study))}"
        clips.append(
            f'<figure><video src="{embed(path, "video/mp4")}" autoplay loop muted playsinline controls></video>'
            f"<figcaption>{escape(words)}</figcaption></figure>"
        )
    page = Template((files("nuclear_diffusion.measure") / "report.html").read_text(encoding="utf-8"))
    patients = len({case.patient for case in study.cases})
    annotated = sum(len(each.numbers) for each in study.of(HAZY))
    text = page.substitute(
        title="Nuclear Diffusion: evaluation",
        summary=f"{patients} patients, {len(study.cases)} clips, {annotated} annotated frames; "
        f"{len(study.main)} methods, the hazy input among them.",
        warnings=warnings(study, notes),
        intervals=escape(results.INTERVALS),
        score_table=html_table(*results.score_table(found)).replace(" [", "<br>["),
        choice=escape(
            "Input, every method and, where known, the truth, frame by frame. Median, best and worst patient by the "
            f"gain in gCNR of {title_of(figures.focus(study))} over the input."
        ),
        clips="\n".join(clips),
        figures="\n".join(blocks),
        patient_table=html_table(*results.patient_table(found)),
        tests=escape(results.TESTS),
        difference_table=html_table(*results.difference_table(found)),
        missing=escape(results.challenge_note(found)),
        challenge_table=html_table(*results.challenge_table(found)),
        definitions="".join(
            f"<dt>{escape(score.title)}</dt><dd>{escape(score.definition)}</dd>" for score in SCORES.values()
        ),
        configuration_table=html_table(*configuration_table(study)),
        versions=escape("Made with " + ", ".join(f"{n} {v}" for n, v in results.all_versions().items()) + "."),
        command=escape(command),
    )
    path = folder / "report.html"
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def write_clip(study: Study, chosen: figures.Chosen, path: Path) -> None:
    """All answers to a clip next to each other in one movie, so that they cannot fall out of step."""
    loaded = chosen.case.read()
    panels = {title_of(m.name): study.signal(m.name, chosen.case) / np.float32(LEVELS - 1) for m in study.main}
    if loaded.truth is not None:
        panels[title_of("clean")] = loaded.truth
    write_video(path, side_by_side(panels), loaded.clip.fps)


def configuration_table(study: Study) -> Cells:
    """Hash, settings and weights of every method."""
    rows = [
        [
            title_of(method.name),
            json.dumps(
                {k: v for k, v in (method.configuration["settings"] or {}).items() if k not in ("method", "prior")}
            ),
            (method.prior_sha256 or "none")[:16],
            method.configuration_hash,
        ]
        for method in study.main
    ]
    return ["method", "settings", "weights (SHA-256)", "configuration"], rows


def warnings(study: Study, notes: Sequence[str]) -> str:
    """What was left out, where anything was."""
    left = [f"{failure.case} is left out of every table: {failure.reason}" for failure in first_failures(study)]
    lines = [*left, *notes]
    if not lines:
        return ""
    return '<ul class="notice">' + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def first_failures(study: Study) -> list:
    """One failure a clip."""
    return list({failure.case: failure for failure in reversed(study.failures)}.values())[::-1]


def html_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of escaped cells."""
    head = "".join(f"<th>{escape(text)}</th>" for text in headings)
    body = "".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def embed(path: Path, kind: str) -> str:
    """A file as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"

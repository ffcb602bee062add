"""The sector found in synthetic frames whose sector is known, and in a real one with text and a settings bar."""

import numpy as np
import pydicom.examples
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage

from nuclear_diffusion.errors import InputError
from nuclear_diffusion.io import read_video
from nuclear_diffusion.sector import find_sector, find_sectors
from nuclear_diffusion.sector.find import apex_below, read_sector, split_sectors


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union."""
    return (a & b).sum() / (a | b).sum()


def sector(height: int, width: int, degrees: float = 38, inner: float = 0.0) -> np.ndarray:
    """A sector whose apex is at the top, centred; its radius fits the frame."""
    y, x = np.mgrid[:height, :width] + 0.5
    down, across = y - 0.06 * height, x - width / 2
    radius = np.hypot(down, across)
    outer = min(0.88 * height, 0.47 * width / np.sin(np.radians(degrees)))
    return (np.abs(np.degrees(np.arctan2(across, down))) <= degrees) & (radius <= outer) & (radius >= inner * outer)


def speckle(mask: np.ndarray, frames: int, seed: int = 0) -> np.ndarray:
    """Moving speckle in the sector, with a dark cavity inside and a drop-out at the left flank."""
    rng = np.random.default_rng(seed)
    height, width = mask.shape
    grain = max(1.0, height / 250)
    y, x = np.mgrid[:height, :width]
    clip = np.empty((frames, height, width), np.float32)
    for t in range(frames):
        noise = ndimage.gaussian_filter(rng.normal(size=(2, height, width)), (0, grain, grain))
        envelope = np.hypot(noise[0], noise[1])
        clip[t] = np.clip(0.6 + 0.15 * np.log(envelope / envelope.mean() + 1e-3), 0, 1)
    cavity = np.hypot((y - 0.5 * height) / 0.2, (x - 0.5 * width) / 0.09) < height
    dropout = np.hypot(y - 0.6 * height, x - 0.27 * width) < 0.08 * height
    clip[:, (cavity | dropout) & mask] *= 0.02
    clip[:, ~mask] = 0
    return clip


def burn_in(clip: np.ndarray) -> np.ndarray:
    """Text, a grey bar, a depth ruler and a scrolling ECG trace, at the scale of the frame; True where drawn."""
    frames, height, width = clip.shape
    size = max(9, height // 24)
    stroke = max(1, height // 400)
    drawn = np.zeros((height, width), bool)
    for t in range(frames):
        image = Image.new("L", (width, height))
        draw = ImageDraw.Draw(image)
        draw.text((0.01 * width, 0.02 * height), "Adult Echo\nMI 1.2\n72 bpm", 255, font_size=size)
        draw.text((0.8 * width, 0.05 * height), f"frame {t}", 220, font_size=size)
        for row in range(int(0.35 * height), int(0.8 * height)):
            draw.line([(0.955 * width, row), (0.985 * width, row)], int(255 * (0.8 - row / height) / 0.45))
        for row in np.linspace(0.06, 0.9, 12) * height:
            draw.point((0.94 * width, row), 255)
        columns = np.arange(width)
        beat = np.exp(-(((columns + 5 * t) % (width / 3) - width / 6) ** 2) / (2 * (width / 120) ** 2))
        trace = 0.975 * height - 0.06 * height * beat
        draw.line(list(zip(columns.tolist(), trace.tolist(), strict=True)), 200, width=stroke)
        clip[t] = np.maximum(clip[t], np.asarray(image) / np.float32(255))
        drawn |= np.asarray(image) > 0
    return drawn


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(128, 128), (256, 256), (240, 320), (480, 640), (768, 1024), (600, 801)])
@pytest.mark.parametrize("degrees", [28, 45])
def test_synthetic_sector_with_text_and_ecg(shape, degrees):
    height, width = shape
    truth = sector(height, width, degrees)
    clip = speckle(truth, 6)
    drawn = burn_in(clip)
    found = find_sector(clip)
    assert found.dtype == bool
    assert found.shape == shape
    assert overlap(found, truth) > 0.9
    assert (found & truth).sum() > 0.97 * truth.sum()
    assert (found & drawn & ~truth).sum() < 0.02 * (drawn & ~truth).sum()


def test_near_field_at_the_apex_is_inside_even_if_saturated_and_steady():
    truth = sector(200, 240)
    clip = speckle(truth, 8)
    near = truth & (np.arange(200)[:, None] < 40)
    clip[:, near] = 1
    found = find_sector(clip)
    assert (found & near).sum() > 0.9 * near.sum()
    assert overlap(found, truth) > 0.9


def test_two_thirds_exactly_black():
    y, x = np.mgrid[:256, :256] + 0.5
    down, across = y - 5, x - 128
    truth = (np.abs(np.degrees(np.arctan2(across, down))) <= 25) & (np.hypot(down, across) < 235)
    clip = speckle(truth, 6)
    assert (clip == 0).mean() > 0.6
    assert overlap(find_sector(clip), truth) > 0.93


def test_curved_probe():
    """The hull adds the black cap under a curved probe, and no more."""
    truth = sector(240, 320, degrees=35, inner=0.35)
    assert overlap(find_sector(speckle(truth, 6)), truth) > 0.9


def test_dark_corners_are_completed_and_text_in_them_is_not():
    truth = sector(300, 400, 42)
    clip = speckle(truth, 6)
    y, x = np.mgrid[:300, :400]
    corners = truth & (np.abs(x - 200) > 110) & (y > 120)
    clip[:, corners] = 0
    found = find_sector(clip)
    assert (found & corners).sum() > 0.8 * corners.sum()
    assert overlap(found, truth) > 0.93
    label = Image.new("L", (400, 300))
    ImageDraw.Draw(label).text((325, 195), "XY", 255, font_size=11)
    text = np.asarray(label) > 0
    assert (text & truth).any()
    clip[:, text] = 1
    assert not (find_sector(clip) & text).any()


def test_still_clip():
    truth = sector(200, 240)
    clip = np.repeat(speckle(truth, 1), 4, axis=0)
    burn_in(clip[:1])
    clip[:] = clip[0]
    assert overlap(find_sector(clip), truth) > 0.9


def test_picture_that_fills_the_frame():
    clip = np.clip(np.random.default_rng(0).normal(0.5, 0.1, (5, 90, 120)), 0, 1).astype(np.float32)
    assert find_sector(clip).mean() > 0.98


def test_rectangle_of_a_linear_probe():
    truth = np.zeros((200, 260), bool)
    truth[30:180, 60:200] = True
    clip = np.random.default_rng(0).uniform(0.2, 0.8, (5, 200, 260)).astype(np.float32) * truth
    assert overlap(find_sector(clip), truth) > 0.95


def test_region_bounds_the_sector():
    truth = sector(200, 240)
    region = np.zeros((200, 240), bool)
    region[:, :150] = True
    found = find_sector(speckle(truth, 5), region)
    assert not (found & ~region).any()
    assert overlap(found, truth & region) > 0.9


def test_nothing_visible_gives_everything():
    clip = np.zeros((3, 64, 64), np.float32)
    clip[:, 5, 5] = 1
    assert find_sector(clip).all()


@pytest.mark.usefixtures("wrong_types")
def test_mistakes_are_value_errors():
    with pytest.raises(ValueError, match="`frames` must be"):
        find_sector(np.zeros((64, 64), np.float32))
    with pytest.raises(ValueError, match="`region` must have"):
        find_sector(np.zeros((2, 64, 64), np.float32), np.ones((64, 32), bool))


def test_real_clip_tissue_in_text_out():
    """Coordinates read off pydicom's 240 x 320 example by eye."""
    clip = read_video(pydicom.examples.get_path("ybr_color"))
    mask = find_sector(clip.frames, clip.region)
    drawn = np.zeros_like(mask)
    for part in (np.s_[:32, :62], np.s_[:240, 294:], np.s_[225:], np.s_[15:25, 186:195]):
        drawn[part] = True  # labels; ruler and icons; settings bar; marker
    drawn &= clip.frames.max(axis=0) > 0.08
    assert drawn.sum() > 2000
    assert not (mask & drawn).any()
    assert not mask[:, 303:].any()
    visible = clip.frames.max(axis=0) > 0.15
    visible[:24] = visible[200:] = visible[:, :75] = visible[:, 290:] = False
    assert mask[visible].all()
    apex, lower_wall, left_flank, right_flank = (28, 170), (195, 170), (150, 55), (140, 280)
    assert all(mask[point] for point in (apex, lower_wall, left_flank, right_flank))
    parts = np.empty(mask.shape, np.int32)
    ndimage.label(mask, output=parts)
    assert parts.max() == 1
    np.testing.assert_array_equal(ndimage.binary_fill_holes(mask), mask)
    # The scanner's own rectangle, tagged for twice this size.
    region = pydicom.examples.ybr_color.SequenceOfUltrasoundRegions[0]
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    assert columns[0] == pytest.approx(region.RegionLocationMinX0 / 2, abs=6)
    assert columns[-1] == pytest.approx(region.RegionLocationMaxX1 / 2, abs=6)
    assert rows[-1] == pytest.approx(region.RegionLocationMaxY1 / 2, abs=6)


def test_still_tissue_around_a_moving_valve():
    truth = sector(200, 240)
    clip = np.repeat(speckle(truth, 1), 5, axis=0)
    valve = np.s_[:, 120:140, 100:150]
    clip[valve] = np.random.default_rng(0).random(clip[valve].shape)
    assert overlap(find_sector(clip), truth) > 0.9


# ---------------------------------------------------------------------------------------------- several images


def spectrum(frames: int, height: int, width: int) -> np.ndarray:
    """A Doppler strip that scrolls: noise under peaks, over a base line."""
    x = np.arange(width + 6 * frames)
    beat = (x / 70) % 1
    peak = height * (0.8 * np.exp(-(((beat - 0.3) / 0.12) ** 2)) + 0.4 * np.exp(-(((beat - 0.75) / 0.07) ** 2)))
    above = 0.85 * height - np.arange(height)[:, None]
    noise = np.random.default_rng(0).uniform(0.3, 1, (height, len(x)))
    strip = np.where((above > 0) & (above < peak), noise, 0)
    strip[int(0.85 * height)] = 0.6
    return np.stack([strip[:, 6 * t : 6 * t + width] for t in range(frames)]).astype(np.float32)


def page(height: int, width: int, images: list[tuple[int, int, np.ndarray]], frames: int = 6):
    """A page with sectors at (top, left), and the mask of each."""
    clip, truths = np.zeros((frames, height, width), np.float32), []
    for seed, (top, left, mask) in enumerate(images):
        truth = np.zeros((height, width), bool)
        truth[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
        place = clip[:, top : top + mask.shape[0], left : left + mask.shape[1]]
        place[:] = np.where(mask, speckle(mask, frames, seed), place)
        truths.append(truth)
    return clip, truths


def matched(found: list[np.ndarray], truths: list[np.ndarray]) -> float:
    """The smallest overlap of a true sector with the one found for it."""
    assert len(found) == len(truths)
    return min(max(overlap(one, truth) for one in found) for truth in truths)


@pytest.mark.parametrize(
    "images",
    [
        [(20, 5, sector(200, 155)), (20, 160, sector(200, 155))],
        [(20, 5, sector(200, 180)), (60, 200, sector(100, 110))],
        [(5, 60, sector(120, 160)), (125, 60, sector(110, 160))],
        [
            (10, 5, sector(110, 150)),
            (10, 160, sector(110, 150)),
            (125, 5, sector(110, 150)),
            (125, 160, sector(110, 150)),
        ],
    ],
    ids=["biplane", "large and small", "stacked", "four"],
)
def test_several_images_are_found_one_by_one(images):
    clip, truths = page(240, 320, images)
    found = find_sectors(clip)
    assert matched(found, truths) > 0.88
    assert np.stack(found).sum(axis=0).max() == 1
    np.testing.assert_array_equal(find_sector(clip), np.logical_or.reduce(found))


@pytest.mark.parametrize(
    "place", [(np.s_[:, 190:300, 10:310], 60), (np.s_[:, 40:150, 170:315], 0)], ids=["below", "beside"]
)
@pytest.mark.parametrize("still", ["nothing", "image", "strip"])
def test_a_doppler_strip_is_left_out(place, still):
    where, left = place
    clip, truths = page(310, 320, [(10, left, sector(170, 165 if left == 0 else 200))])
    clip[where] = spectrum(6, *clip[where].shape[1:])
    if still == "image":
        clip[:, truths[0]] = clip[0, truths[0]]
    if still == "strip":
        clip[where] = clip[where][0]
    found = find_sectors(clip)
    assert matched(found, truths) > 0.9
    strip = np.zeros(clip.shape[1:], bool)
    strip[where[1:]] = True
    assert not (found[0] & strip).any()


def test_a_doppler_strip_under_a_linear_probe_is_left_out():
    clip = np.zeros((6, 310, 320), np.float32)
    truth = np.zeros((310, 320), bool)
    truth[10:160, 60:260] = True
    clip[:, truth] = np.random.default_rng(0).uniform(0.1, 0.7, (6, truth.sum()))
    clip[:, 180:300, 10:310] = spectrum(6, 120, 300)
    assert matched(find_sectors(clip), [truth]) > 0.95


@pytest.mark.parametrize("gap", [np.s_[:, 100:118], np.s_[:, :, 150:166]], ids=["dark band", "shadow"])
def test_one_image_with_a_gap_stays_one(gap):
    truth = sector(240, 320)
    clip = speckle(truth, 6)
    clip[gap] = 0
    assert matched(find_sectors(clip), [truth]) > 0.9


def test_each_region_is_searched_by_itself():
    """Two regions that touch; the pixels between them would join the images."""
    clip = np.random.default_rng(0).uniform(0.2, 0.8, (5, 100, 160)).astype(np.float32)
    regions = np.zeros((100, 160), np.uint8)
    regions[10:90, :80], regions[10:90, 80:] = 1, 2
    found = find_sectors(clip, regions)
    np.testing.assert_array_equal(found, [regions == 1, regions == 2])


def test_a_clip_without_a_two_dimensional_region_is_refused():
    with pytest.raises(InputError, match="two-dimensional"):
        find_sectors(np.ones((2, 64, 64), np.float32), np.zeros((64, 64), bool))


# ---------------------------------------------------------------------------------------------- upside down


@pytest.mark.parametrize("shape", [(240, 320), (256, 256)])
@pytest.mark.parametrize("inner", [0, 0.3])
def test_an_inverted_sector_is_found_and_recognised(shape, inner):
    truth = sector(*shape, inner=inner)[::-1]
    clip = speckle(truth[::-1], 6)[:, ::-1].copy()
    corners = truth & (np.abs(np.arange(shape[1]) - shape[1] / 2) > 0.4 * truth.any(axis=0).sum())
    clip[:, corners] = 0
    found = find_sector(clip)
    assert overlap(found, truth) > 0.9
    assert apex_below(found)
    assert not apex_below(found[::-1])


@pytest.mark.parametrize("degrees", [20, 38, 55])
@pytest.mark.parametrize("inner", [0, 0.35])
def test_where_the_apex_is(degrees, inner):
    truth = sector(240, 320, degrees, inner)
    assert not apex_below(truth)
    assert apex_below(truth[::-1])


def test_a_rectangle_has_no_apex_below():
    truth = np.zeros((100, 120), bool)
    truth[10:80, 20:100] = True
    assert not apex_below(truth)
    truth[70:80, 20:30] = truth[70:80, 90:100] = False  # dark corners
    assert not apex_below(truth)


# ---------------------------------------------------------------------------------------------- given by the user


def test_a_mask_is_split_into_its_pieces():
    mask = np.zeros((60, 100), bool)
    mask[10:50, 5:40] = mask[10:50, 60:95] = True
    mask[54:56, 62:66] = True  # a crumb, of the image above it
    left, right = split_sectors(mask)
    assert left[:, :50].sum() == 40 * 35
    assert not left[:, 50:].any()
    np.testing.assert_array_equal(right, mask & ~left)
    with pytest.raises(InputError, match="empty"):
        split_sectors(np.zeros((5, 5), bool))


@pytest.mark.parametrize(("white", "mode"), [(1, "grey"), (255, "grey"), (65535, "grey"), (1, "rgb"), (255, "rgb")])
def test_a_sector_is_read_from_a_picture(tmp_path, white, mode):
    truth = sector(60, 80)
    pixels = (truth * white).astype(np.uint16 if white > 255 else np.uint8)
    image = Image.fromarray(pixels)
    (image.convert("RGB") if mode == "rgb" else image).save(tmp_path / "sector.png")
    np.testing.assert_array_equal(read_sector(tmp_path / "sector.png"), truth)


def test_pictures_without_a_sector_are_refused(tmp_path):
    Image.new("L", (20, 20)).save(tmp_path / "black.png")
    (tmp_path / "text.png").write_text("not a picture")
    for name, says in (("black.png", "black"), ("text.png", "cannot be read"), ("missing.png", "does not exist")):
        with pytest.raises(InputError, match=says):
            read_sector(tmp_path / name)

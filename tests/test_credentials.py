"""Records and XMP inside PNG files."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from skindualgen.contracts import InputError, PairRecord
from skindualgen.files import PNG_KEY
from skindualgen.marks.embed import XMP_KEY, image_png, mask_png, read_embedded
from skindualgen.marks.xmp import NOT_XML, TRAINED_ALGORITHMIC_MEDIA, read_xmp_packet, xmp_packet

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
RECORD = PairRecord(
    file_name="images/SDG_0000001.png",
    mask_file_name="masks/SDG_0000001.png",
    isic_id="SDG_0000001",
    prompt="a nevus, 40 % <ä> & \"q\" 'p'",
    diagnosis="nevus",
    origin="synthetic",
    source="skindualgen 0.1.0",
    license="CC-BY-4.0",
    seed=2**63 - 1,
    adapter_sha256="a" * 64,
    base_sha256="b" * 64,
    guidance_scale=3.5,
    sha256="c" * 64,
    mask_sha256="d" * 64,
    scores={"mask_area_fraction": 0.25},
)


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "image.png"
    path.write_bytes(data)
    return path


def with_texts(tmp_path: Path, **texts: str) -> Path:
    """A picture with these texts, XMP under the name ``xmp``."""
    info = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        info.add_itxt(XMP_KEY if key == "xmp" else key, text)
    path = tmp_path / "image.png"
    Image.fromarray(PIXELS).save(path, pnginfo=info)
    return path


def test_pixels_and_record_come_back(tmp_path: Path) -> None:
    path = written(tmp_path, image_png(Image.fromarray(PIXELS), RECORD))
    with Image.open(path) as image:
        assert image.mode == "RGB" and (np.asarray(image) == PIXELS).all()
    embedded = read_embedded(path)
    assert embedded.problems == ()
    assert embedded.record == RECORD.model_dump(exclude_none=True, exclude={"sha256", "mask_sha256"})
    assert embedded.xmp is not None and embedded.xmp.marked_as_generated
    assert (embedded.xmp.prompt, embedded.xmp.seed) == (RECORD.prompt, str(2**63 - 1))
    assert (embedded.xmp.adapter_sha256, embedded.xmp.base_sha256) == ("a" * 64, "b" * 64)
    assert (embedded.xmp.system, embedded.xmp.version) == ("skindualgen", "0.1.0")
    assert (embedded.xmp.isic_id, embedded.xmp.license) == ("SDG_0000001", "CC-BY-4.0")


def test_equal_input_gives_equal_bytes_and_hashes_are_no_part_of_them() -> None:
    first = image_png(Image.fromarray(PIXELS), RECORD)
    assert image_png(Image.fromarray(PIXELS), RECORD.model_copy(deep=True)) == first
    assert image_png(Image.fromarray(PIXELS), RECORD.model_copy(update={"sha256": None, "mask_sha256": None})) == first
    assert image_png(Image.fromarray(PIXELS), RECORD.model_copy(update={"seed": 2})) != first


def test_another_reader_finds_the_iptc_terms_under_their_namespaces(tmp_path: Path) -> None:
    """Names as in the IPTC standard 2025.1, written out here a second time, read through Pillow's own XMP reader."""
    with Image.open(written(tmp_path, image_png(Image.fromarray(PIXELS), RECORD))) as image:
        description = image.getxmp()["xmpmeta"]["RDF"]["Description"]
        root = ElementTree.fromstring(image.info["xmp"])
    assert description["DigitalSourceType"].endswith("/digitalsourcetype/trainedAlgorithmicMedia")
    extension = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
    for name, text in {
        "DigitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
        "AIPromptInformation": RECORD.prompt,
        "AISystemUsed": "skindualgen",
        "AISystemVersionUsed": "0.1.0",
    }.items():
        assert [element.text for element in root.iter(extension + name)] == [text]
    page = "https://creativecommons.org/licenses/by/4.0/"
    statement = root.find(".//{http://ns.adobe.com/xap/1.0/rights/}WebStatement")
    licence = root.find(".//{http://creativecommons.org/ns#}license")
    assert statement is not None and statement.text == page
    assert licence is not None
    assert licence.get("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}resource") == page


def test_a_mask_carries_its_id_alone(tmp_path: Path) -> None:
    mask = np.zeros((24, 32), np.uint8)
    mask[5:9] = 255
    data = mask_png(Image.fromarray(mask), "SDG_0000001")
    assert data == mask_png(Image.fromarray(mask), "SDG_0000001")
    path = written(tmp_path, data)
    with Image.open(path) as image:
        assert image.mode == "L" and (np.asarray(image) == mask).all()
        assert image.text == {PNG_KEY: '{"isic_id": "SDG_0000001"}'}  # type: ignore[attr-defined]
    assert read_embedded(path).record == {"isic_id": "SDG_0000001"} and read_embedded(path).xmp is None


def test_a_photograph_is_never_marked_as_generated() -> None:
    with pytest.raises(InputError, match="ISIC_1 with origin 'real'"):
        image_png(Image.fromarray(PIXELS), PairRecord(file_name="a.png", isic_id="ISIC_1"))


@pytest.mark.parametrize("prompt", ["a\x00b", "a\x0bb", "a\ud800b", "a\ufffeb"])
def test_characters_that_xml_cannot_hold_are_refused(prompt: str) -> None:
    with pytest.raises(InputError, match="in the field prompt"):
        image_png(Image.fromarray(PIXELS), RECORD.model_copy(update={"prompt": prompt}))


@given(st.text(min_size=1).filter(lambda text: not NOT_XML.search(text)))
def test_any_other_prompt_comes_back_to_the_letter(prompt: str) -> None:
    record = RECORD.model_copy(update={"prompt": prompt, "license": prompt})
    fields = read_xmp_packet(xmp_packet(record, creator_tool="tool 1").encode())
    assert (fields.prompt, fields.license) == (prompt, prompt)


def test_a_generator_without_a_version_and_without_facts() -> None:
    bare = PairRecord(file_name="a.png", isic_id="x", origin="synthetic", source="SomeGAN")
    fields = read_xmp_packet(xmp_packet(bare, creator_tool="SomeGAN").encode())
    assert (fields.system, fields.version, fields.seed, fields.license) == ("SomeGAN", None, None, None)
    assert fields.digital_source_type == TRAINED_ALGORITHMIC_MEDIA


def test_a_packet_in_attribute_form_is_read_as_well() -> None:
    packet = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description xmlns:e="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" e:AIPromptInformation="p" e:Other="o" '
        b'e:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"/></rdf:RDF></x:xmpmeta>'
    )
    fields = read_xmp_packet(packet)
    assert fields.prompt == "p" and not fields.marked_as_generated


@pytest.mark.parametrize(
    "packet", ['<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>', "<x>", "", "no xml"], ids=["entity", "open", "empty", "text"]
)
def test_a_packet_that_cannot_be_read_is_a_problem_not_a_crash(tmp_path: Path, packet: str) -> None:
    embedded = read_embedded(with_texts(tmp_path, skindualgen="{}", xmp=packet))
    assert embedded.xmp is None and len(embedded.problems) == 1 and "XMP packet" in embedded.problems[0]


@pytest.mark.parametrize("text", ["[1]", "3", "null", "{", '"x"'])
def test_text_that_is_no_record_is_a_problem_not_a_crash(tmp_path: Path, text: str) -> None:
    embedded = read_embedded(with_texts(tmp_path, skindualgen=text))
    assert embedded.record is None and len(embedded.problems) == 1 and "PNG text" in embedded.problems[0]


@pytest.mark.parametrize(
    ("field", "value"), [("prompt", "another"), ("seed", 7), ("license", None), ("isic_id", "x"), ("origin", "real")]
)
def test_text_and_xmp_that_contradict_are_reported(tmp_path: Path, field: str, value: object) -> None:
    changed = RECORD.model_copy(update={field: value}).model_dump(exclude_none=True)
    packet = xmp_packet(RECORD, creator_tool="skindualgen 0.1.0")
    embedded = read_embedded(with_texts(tmp_path, skindualgen=json.dumps(changed), xmp=packet))
    assert len(embedded.problems) == 1
    assert embedded.problems[0].startswith(f"{field} is {value!r} in the PNG text")


def test_text_behind_the_pixels_is_found(tmp_path: Path) -> None:
    """PNG allows text after the image data, where a reader that stops at the header never looks."""
    data = image_png(Image.fromarray(PIXELS), RECORD)
    plain = io.BytesIO()
    Image.fromarray(PIXELS).save(plain, format="PNG")
    chunk_start = data.index(b"tEXt" + PNG_KEY.encode()) - 4
    chunk = data[chunk_start : chunk_start + 12 + int.from_bytes(data[chunk_start : chunk_start + 4], "big")]
    end = plain.getvalue().rindex(b"IEND") - 4
    moved = plain.getvalue()[:end] + chunk + plain.getvalue()[end:]
    embedded = read_embedded(written(tmp_path, moved))
    assert embedded.record is not None and embedded.record["isic_id"] == "SDG_0000001"


def test_what_another_library_wrote_has_nothing_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(PIXELS).save(path)
    embedded = read_embedded(path)
    assert (embedded.record, embedded.xmp, embedded.problems) == (None, None, ())


def test_the_earlier_name_of_the_room_still_works() -> None:
    """Documented up to 0.1.0; in a process of its own, as the module is imported once."""
    code = (
        "import warnings\nwarnings.simplefilter('always')\n"
        "from skindualgen.credentials.embed import read_embedded\n"
        "from skindualgen.credentials.watermark import detect\n"
        "import skindualgen.marks.embed as now\nassert read_embedded is now.read_embedded\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "DeprecationWarning: skindualgen.credentials is called skindualgen.marks" in done.stderr

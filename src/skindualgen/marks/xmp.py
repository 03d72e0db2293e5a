"""The XMP packet of a generated image: IPTC's mark of generated media, and what the image was made with.

Source: ISO 16684-1 (XMP); IPTC Photo Metadata Standard 2025.1 for the names under ``Iptc4xmpExt``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from skindualgen.contracts import InputError, PairRecord

TRAINED_ALGORITHMIC_MEDIA = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC NewsCodes, digital source type: media that a trained model made."""

NAMESPACES = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xmpRights": "http://ns.adobe.com/xap/1.0/rights/",
    "cc": "http://creativecommons.org/ns#",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "skindualgen": "https://skindualgen.invalid/xmp/1.0/",
}
"""Prefix -> namespace. Our own is under ``.invalid`` (RFC 2606), which is nobody's: XMP only compares the text."""

LICENCE_PAGES = {
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC-BY-SA-4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
    "CC-BY-NC-4.0": "https://creativecommons.org/licenses/by-nc/4.0/",
    "CC-BY-NC-SA-4.0": "https://creativecommons.org/licenses/by-nc-sa/4.0/",
}
"""SPDX id -> the address that ``cc:license`` and ``xmpRights:WebStatement`` hold."""

PACKET_ID = "W5M0MpCehiHzreSzNTczkc9d"
"""Fixed by ISO 16684-1, section 7.3.2."""

NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, not even escaped (section 2.2)."""


@dataclass(frozen=True)
class XmpFields:
    """What a packet says of its image; None where it says nothing.

    Attributes:
        digital_source_type: address of the IPTC term; `TRAINED_ALGORITHMIC_MEDIA` is the mark of a generated image.
        isic_id, prompt, seed, adapter_sha256, base_sha256, license: as in `PairRecord`.
        system, version: of the generator.
        creator_tool: generator and version as one text.
    """

    digital_source_type: str | None = None
    isic_id: str | None = None
    prompt: str | None = None
    seed: str | None = None
    adapter_sha256: str | None = None
    base_sha256: str | None = None
    license: str | None = None
    system: str | None = None
    version: str | None = None
    creator_tool: str | None = None

    @property
    def marked_as_generated(self) -> bool:
        """Whether the packet carries IPTC's mark."""
        return self.digital_source_type == TRAINED_ALGORITHMIC_MEDIA


PROPERTIES = {
    "digital_source_type": "Iptc4xmpExt:DigitalSourceType",
    "isic_id": "dc:identifier",
    "prompt": "Iptc4xmpExt:AIPromptInformation",
    "seed": "skindualgen:seed",
    "adapter_sha256": "skindualgen:adapterSHA256",
    "base_sha256": "skindualgen:baseSHA256",
    "license": "dc:rights",
    "system": "Iptc4xmpExt:AISystemUsed",
    "version": "Iptc4xmpExt:AISystemVersionUsed",
    "creator_tool": "xmp:CreatorTool",
}
"""Field of `XmpFields` -> XMP property."""


def xmp_packet(record: PairRecord, *, creator_tool: str) -> str:
    """Return the packet of a generated image; equal records give equal packets, as it holds no date.

    Args:
        record: of the image.
        creator_tool: "name version" of the generator.

    Raises:
        InputError: the record is of a real photograph, or holds a character that XML cannot.
    """
    if record.origin != "synthetic":
        raise InputError(
            f"{record.isic_id} with origin {record.origin!r}",
            "a generated image: a photograph must not be marked as generated media",
            "write real photographs as they are",
        )
    system, _, version = creator_tool.partition(" ")
    values = {
        "digital_source_type": TRAINED_ALGORITHMIC_MEDIA,
        "isic_id": record.isic_id,
        "prompt": record.prompt,
        "seed": record.seed,
        "adapter_sha256": record.adapter_sha256,
        "base_sha256": record.base_sha256,
        "system": system,
        "version": version or None,
        "creator_tool": creator_tool,
    }
    lines = [
        f"   <{PROPERTIES[field]}>{_escaped(str(value), field)}</{PROPERTIES[field]}>"
        for field, value in values.items()
        if value is not None
    ]
    if record.license is not None:
        lines += _licence_lines(record.license)
    spaces = "\n".join(f'    xmlns:{prefix}="{address}"' for prefix, address in NAMESPACES.items() if prefix != "rdf")
    body = "\n".join(lines)
    return (
        f'<?xpacket begin="\ufeff" id="{PACKET_ID}"?>\n<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
        f' <rdf:RDF xmlns:rdf="{NAMESPACES["rdf"]}">\n  <rdf:Description rdf:about=""\n{spaces}>\n{body}\n'
        f'  </rdf:Description>\n </rdf:RDF>\n</x:xmpmeta>\n<?xpacket end="r"?>'
    )


def read_xmp_packet(packet: bytes) -> XmpFields:
    """Read a packet, whoever wrote it; properties that this library does not know are passed over.

    Raises:
        ValueError: not XML, or XML with a document type (XMP has none, and entities can be made to explode).
    """
    if b"<!DOCTYPE" in packet:
        raise ValueError("an XMP packet with a document type")
    try:
        root = ElementTree.fromstring(packet.strip().strip(b"\0"))
    except ElementTree.ParseError as error:
        raise ValueError(f"an XMP packet that is not XML: {error}") from None
    found = dict(_properties(root))
    return XmpFields(**{field: found[name] for field, name in PROPERTIES.items() if name in found})


def _properties(root: ElementTree.Element) -> Iterator[tuple[str, str]]:
    """Yield (prefix:name, text), whether a property was written as an element, as an attribute or as an array."""
    short = {f"{{{address}}}": f"{prefix}:" for prefix, address in NAMESPACES.items()}
    for description in root.iter(f"{{{NAMESPACES['rdf']}}}Description"):
        values = dict(description.attrib)
        for child in description:
            items = [item.text or "" for item in child.iter(f"{{{NAMESPACES['rdf']}}}li")]
            values[child.tag] = items[0] if items else child.text or ""
        for tag, text in values.items():
            space, brace, name = tag.rpartition("}")
            if prefix := short.get(space + brace):
                yield prefix + name, text


def _licence_lines(licence: str) -> list[str]:
    text = _escaped(licence, "license")
    lines = [f'   <dc:rights><rdf:Alt><rdf:li xml:lang="x-default">{text}</rdf:li></rdf:Alt></dc:rights>']
    page = LICENCE_PAGES.get(licence, licence if re.match(r"https?://\S+$", licence) else None)
    if page is not None:
        address = _escaped(page, "license")
        lines.append(f"   <xmpRights:WebStatement>{address}</xmpRights:WebStatement>")
        lines.append(f'   <cc:license rdf:resource="{address}"/>')
    return lines


def _escaped(text: str, field: str) -> str:
    if bad := NOT_XML.search(text):
        raise InputError(
            f"the character {bad.group()!r} in the field {field}", "text that XML can hold", "remove the character"
        )
    return escape(text, {"\r": "&#13;", '"': "&quot;"})  # a bare carriage return would be read back as a line feed

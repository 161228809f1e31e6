"""A contract that is nobody's, as a PDF made here, and what S3 says when it arrives."""

from typing import Any
from urllib.parse import quote_plus

PAGES = [
    """Supply agreement

This agreement is made on 3 March 2026 between Northwind Turbines Ltd and Harbour Light GmbH.
Northwind Turbines Ltd delivers twelve rotor blades to the yard in Kiel.
Harbour Light GmbH pays EUR 1,250,000.00 in two instalments.
The first instalment of EUR 500,000.00 is due on 1 June 2026.""",
    """Delivery

The blades arrive at the yard in Kiel on 15 September 2026 at the latest.
Northwind Turbines Ltd pays a penalty of EUR 25,000.00 for each week of delay.
Harbour Light GmbH inspects the blades within ten days and reports defects in writing.""",
    """End of the agreement

The agreement ends on 31 December 2028.
It renews automatically for one year unless a party gives notice by 30 September 2028.
The liability of Northwind Turbines Ltd is unlimited for damage by defective blades.""",
]
KNOWN = {"northwind turbines ltd": "low", "harbour light gmbh": "medium"}
"""The parties' risk classes, as the table spells their names."""
PICTURE = b"q 400 0 0 400 100 200 cm BI /W 1 /H 1 /BPC 8 /CS /G ID \x80 EI Q"
"""A grey square: what a page looks like to a program when it is a scan."""


def event_of(bucket: str, key: str, etag: str, version: str | None = None) -> dict[str, Any]:
    """Return the notification that S3 sends of a new object."""
    told: dict[str, Any] = {"key": quote_plus(key, safe="/"), "eTag": etag, "sequencer": "0A1B2C"}
    if version is not None:
        told["versionId"] = version
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "eventTime": "2026-03-03T09:00:00.000Z",
        "s3": {"s3SchemaVersion": "1.0", "bucket": {"name": bucket}, "object": told},
    }
    return {"Records": [record]}


def pdf_of(pages: list[str]) -> bytes:
    """Return a PDF with these pages; one without text is a picture."""
    count = len(pages)
    kids = " ".join(f"{4 + 2 * at} 0 R" for at in range(count))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {count} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for at, text in enumerate(pages):
        drawn = drawing(text) if text else PICTURE
        page = (
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents {5 + 2 * at} 0 R"
            " /Resources << /Font << /F1 3 0 R >> >> >>"
        )
        head = f"<< /Length {len(drawn)} >>\nstream\n".encode()
        objects += [page.encode(), head + drawn + b"\nendstream"]
    return assembled(objects)


def drawing(text: str) -> bytes:
    """Return what draws the lines of a page."""
    escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
    lines = "".join(f"({line}) '\n" for line in escaped.splitlines())
    return f"BT /F1 11 Tf 15 TL 60 780 Td\n{lines}ET".encode("cp1252", "replace")


def assembled(objects: list[bytes]) -> bytes:
    """Return a file of numbered objects, with the table of where each one begins."""
    whole = b"%PDF-1.4\n"
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(whole))
        whole += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    size = len(objects) + 1
    return (
        whole
        + f"xref\n0 {size}\n0000000000 65535 f \n{table}".encode()
        + f"trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{len(whole)}\n%%EOF\n".encode()
    )

"""What kind of file something looks like, by its first bytes, whatever it is called.

Promise:  pure; a few comparisons. "" for what is unknown, which most texts are.
Callers:  phases.part_reading, phases.zip_listing.
"""

#: Bytes that are needed to tell.
NEEDED = 64

ZIP = "application/zip"

#: How files begin: Debian's file(1) and the formats' own descriptions name them so.
_BEGINNINGS = (
    (b"PK\3\4", ZIP),
    (b"PK\5\6", ZIP),
    (b"PK\7\x08PK\3\4", ZIP),
    (b"MZ", "application/x-dosexec"),
    (b"\x7fELF", "application/x-executable"),
    (b"\xca\xfe\xba\xbe", "application/java-vm"),
    (b"\xcf\xfa\xed\xfe", "application/x-mach-binary"),
    (b"\xce\xfa\xed\xfe", "application/x-mach-binary"),
    (b"L\0\0\0\x01\x14\x02\0", "application/x-ms-shortcut"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
    (b"ITSF", "application/vnd.ms-htmlhelp"),
    (b"Rar!\x1a\x07", "application/x-rar"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"\x1f\x8b", "application/gzip"),
    (b"BZh", "application/x-bzip2"),
    (b"\xfd7zXZ\0", "application/x-xz"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"MSCF", "application/vnd.ms-cab-compressed"),
    (b"%PDF-", "application/pdf"),
    (b"{\\rtf", "text/rtf"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"#!", "text/x-shellscript"),
    (b"\x78\x9f\x3e\x22", "application/vnd.ms-tnef"),
)
_KNOWN = tuple(start for start, _ in _BEGINNINGS)


def looks_like(beginning: bytes) -> str:
    """The type of a file that begins so."""
    if not beginning.startswith(_KNOWN):
        return ""  # as most files
    return next(found for start, found in _BEGINNINGS if beginning.startswith(start))

from vm import cpio


def members(data: bytes) -> list[tuple[str, int, bytes]]:
    found, position = [], 0
    while True:
        assert position % 4 == 0
        assert data[position : position + 6] == b"070701"
        fields = [int(data[position + 6 + 8 * i : position + 14 + 8 * i], 16) for i in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = data[position + 110 : position + 110 + name_size - 1].decode()
        start = -(-(position + 110 + name_size) // 4) * 4
        if name == "TRAILER!!!":
            return found
        found.append((name, mode, data[start : start + size]))
        position = -(-(start + size) // 4) * 4


def test_members_come_back() -> None:
    data = cpio.archive(
        [cpio.directory("dev"), cpio.device("dev/console", 5, 1), cpio.file("init", b"abc", 0o755)]
    )
    assert members(data) == [
        ("dev", 0o40755, b""),
        ("dev/console", 0o20600, b""),
        ("init", 0o100755, b"abc"),
    ]


def test_equal_content_gives_equal_bytes() -> None:
    assert cpio.archive([cpio.file("a", b"1")]) == cpio.archive([cpio.file("a", b"1")])

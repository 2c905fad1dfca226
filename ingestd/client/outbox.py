"""What a publisher keeps until it is acknowledged: numbered when it is sent, sent again when it must be.

Sans-I/O. The source's bytes are cut into pieces; each piece gets its number when it is sent on a connection,
and loses it again if the server turns out not to have it. What had to be dropped leaves a grave in its
place, so that the next piece to be sent is found to follow a gap: it is cut to its random access point, and
`ingestd.client.messages.skip` goes before it.
"""

from __future__ import annotations

from attrs import define, field, frozen

from ingestd.client import messages
from ingestd.client.messages import CHUNK_HEADER
from ingestd.client.scan import Scan
from ingestd.media.demux import begins_container

PIECE = 256 * 2**10
"""Bytes of the longest piece: what is acknowledged at once, and lost with one message that was cut short."""
OVERHEAD = 256
"""What a piece costs besides its bytes, roughly: a bound must hold for tiny ones, too."""

_REASON = "the publisher's buffer was full"


@frozen(slots=True, kw_only=True)
class Buffer:
    """How much is kept: *size* in bytes and, of live sources, *seconds* since it was given.

    When it is full a source is made to wait, or, with *drop*, loses its oldest up to a keyframe.
    """

    size: int = 32 * 2**20
    seconds: float | None = None
    drop: bool = False


@define
class Tally:
    """How many chunks, and of the source's bytes how many."""

    chunks: int = 0
    bytes: int = 0

    def add(self, chunks: int, size: int) -> None:
        self.chunks += chunks
        self.bytes += size


@define(eq=False)
class Recorder:
    """*number* is what the server knows it by, *header_in* the chunk that shows where its headers end.

    Both are None until the server has it, or it is on its way there. It *follows* another one of this
    session that had its bytes from the same source.
    """

    mime: str = ""
    scan: Scan = field(factory=Scan)
    number: int | None = None
    header_in: int | None = None
    follows: bool = False


@define(eq=False)
class _Piece:
    """*data* begins *start* bytes into its recorder; headers that are sent again have `_AGAIN`.

    *access* is where its first random access point begins. A grave (*lost*) has no data any more; it stands
    for *count* numbers, the first of which was given *at* that time (s), or 0 if that is not known any more.
    """

    recorder: Recorder
    start: int
    data: bytes
    size: int
    at: float
    access: int | None = None
    header: bool = False
    number: int | None = None
    count: int = 1
    lost: bool = False
    skipped: bool = False

    @property
    def opens(self) -> bool:
        """Whether a server that has nothing before it can go on here."""
        return not self.lost and (self.start <= 0 or self.access is not None)


_AGAIN = -1


@define(eq=False)
class Outbox:
    """The pieces from the first one that is not acknowledged to the last one that the source gave.

    `put` takes them in; `greet`, `take` and `acknowledge` are for a connection, `hang_up` for its end.
    *unrecorded*: the server acknowledges nothing any more, so what is sent need not be kept.
    """

    buffer: Buffer = field(factory=Buffer)
    given: Tally = field(factory=Tally)
    acknowledged: Tally = field(factory=Tally)
    dropped: Tally = field(factory=Tally)
    gaps: int = 0
    unrecorded: bool = False
    due: int = 0
    _pieces: list[_Piece] = field(factory=list)
    _kept: Tally = field(factory=Tally)
    _sent: int = 0  # so many pieces have numbers
    _floor: int = 0  # the number of the first piece
    _acked: int = 0
    _online: bool = False
    _fresh: bool = True  # the server has nothing that what comes next could follow
    _most: int = PIECE
    _recorder: Recorder = field(factory=Recorder)
    _announced: int | None = None
    _next_recorder: int = 0

    # The source's side

    @property
    def buffered(self) -> Tally:
        """What is kept."""
        return self._kept

    @property
    def empty(self) -> bool:
        """Whether all that was given is settled: acknowledged, or dropped and said to be."""
        return not self._pieces

    @property
    def full(self) -> bool:
        """Whether the source is to wait."""
        return not self.buffer.drop and self._cost >= self.buffer.size and not self._stuck

    def begin(self, mime: str = "") -> None:
        """What is put from now on is another recorder's."""
        before = self._recorder
        self._recorder = Recorder(mime, follows=before.follows or before.scan.fed > 0)

    def put(self, data: bytes, now: float) -> None:
        """Take the source's next bytes, given at *now* (s); a recorder that begins in them is noticed."""
        if self._recorder.scan.fed and begins_container(data):
            self.begin(self._recorder.mime)
        while data:
            recorder = self._recorder
            found = recorder.scan.feed(data)
            own = data[: found.next]
            start = recorder.scan.fed - len(own)
            for at in range(0, len(own), PIECE):
                part = own[at : at + PIECE]
                self._pieces.append(_Piece(recorder, start + at, part, len(part), now))
                self.given.add(1, len(part))
                self._kept.add(1, len(part))
            if found.header and own:
                self._pieces[-1].header = True
            for offset in found.access:
                self._note_access(recorder, offset)
            if found.next is None:
                break
            self.begin(recorder.mime)
            data = data[found.next :]
        if self.buffer.drop or self._stuck:
            self._make_room(now)

    def _note_access(self, recorder: Recorder, offset: int) -> None:
        for piece in reversed(self._pieces):
            if piece.recorder is not recorder:
                return
            if piece.start <= offset:
                if piece.access is None and offset < piece.start + len(piece.data):
                    piece.access = offset - piece.start
                return

    # The bound

    @property
    def _cost(self) -> int:
        return self._kept.bytes + OVERHEAD * self._kept.chunks

    @property
    def _stuck(self) -> bool:
        """Full, and nothing of it can be sent: its keyframes are too far apart to wait for the next one."""
        if self._cost < self.buffer.size:
            return False
        rest = self._pieces[self._sent :]
        gap = self._fresh or (bool(rest) and rest[0].lost)
        return gap and not any(piece.opens for piece in rest)

    def _make_room(self, now: float) -> None:
        """Drop the oldest, but nothing that is on its way: most likely it arrives."""
        pieces, seconds = self._pieces, self.buffer.seconds
        end = self._sent if self._online else 0
        while end < len(pieces):
            piece = pieces[end]
            old = self.buffer.drop and seconds is not None and piece.at < now - seconds
            if not piece.lost and not old and self._cost <= self.buffer.size:
                break
            self._lose(piece)
            end += 1
        self._bury(self._sent, end)

    def _lose(self, piece: _Piece) -> None:
        if not piece.lost:
            self._kept.add(-1, -len(piece.data))
            piece.lost, piece.data, piece.access = True, b"", None

    def _bury(self, begin: int, end: int) -> None:
        """Make one grave of the pieces from *begin* to *end* that have no number."""
        graves = self._pieces[begin:end]
        if not graves:
            return
        for piece in graves:
            self._lose(piece)
        first = graves[0]
        first.count, first.size = sum(each.count for each in graves), sum(each.size for each in graves)
        first.header = False
        self._pieces[begin:end] = [first]

    # A connection's side

    def greet(self, following: int, recorder: int | None, max_message: int, *, same: bool) -> None:
        """The server takes chunks from number *following* on, and has seen *recorder*.

        *same*: it goes on with the session that the last connection was for.
        """
        if same and following <= self.due and (recorder is None or recorder < self._next_recorder):
            self._settle(following)
            missing = self._floor - following
            if missing > 0:
                # Not on its disk yet, when its machine died.
                self.acknowledged.add(-max(0, self._acked - following), 0)
                self._pieces.insert(0, _Piece(Recorder(), 0, b"", 0, 0.0, count=missing, lost=True))
        else:
            self._fresh = True
            first = self._pieces[0].recorder if self._pieces else self._recorder
            first.follows = False
        for each in {piece.recorder for piece in self._pieces} | {self._recorder}:
            if self._fresh or (
                each.number is not None and each.number > (-1 if recorder is None else recorder)
            ):
                each.number = None
            if self._fresh or (each.header_in is not None and each.header_in >= following):
                each.header_in = None
        for piece in self._pieces:
            piece.number, piece.skipped = None, False
        self._sent, self._announced, self._online = 0, None, True
        self._next_recorder = 0 if recorder is None else recorder + 1
        self._most = min(PIECE, max_message - CHUNK_HEADER.size)
        self.due = self._floor = self._acked = following

    def hang_up(self) -> None:
        """The connection is gone; what it had taken and not acknowledged may have arrived, or not."""
        self._online = False

    def acknowledge(self, following: int) -> None:
        """All before number *following*, which is at most `due`, is settled."""
        self._settle(following)

    def take(self, *, last: bool = False) -> list[str | bytes]:
        """The messages to be sent next; none if there is nothing. *last*: the source will give no more."""
        pieces, place = self._pieces, self._place()
        if place is None and last:
            place = len(pieces)
        if place is None or not self._online or (place == len(pieces) == self._sent):
            return []
        said: list[str | bytes] = []
        gap = self._fresh or place > self._sent
        if gap:
            place = self._open_gap(place, said)
            if place == len(pieces):
                return said
        piece = self._fit(place)
        said += self._announce(piece.recorder)
        piece.number = self.due
        if piece.header:
            piece.recorder.header_in = piece.number
        self.due += 1
        self._sent = place + 1
        said.append(CHUNK_HEADER.pack(piece.number, piece.recorder.number) + piece.data)
        if self.unrecorded:
            self._forget()
        return said

    def _forget(self) -> None:
        """Give up all that is sent, as missing: nobody will ever say that it arrived."""
        for piece in self._pieces[: self._sent]:
            if piece.skipped:
                self.gaps += 1
                self.dropped.add(piece.count, piece.size)
            self._lose(piece)
        del self._pieces[: self._sent]
        self._sent, self._floor = 0, self.due

    def _place(self) -> int | None:
        """Of the next piece to be sent; behind a gap, the next one at which the server can go on."""
        pieces, at = self._pieces, self._sent
        if at < len(pieces) and not pieces[at].lost and not self._fresh:
            return at
        return next((i for i in range(at, len(pieces)) if pieces[i].opens), None)

    def _open_gap(self, place: int, said: list[str | bytes]) -> int:
        """Give up what lies before *place* and cut the piece there; returns its place then."""
        pieces = self._pieces
        cut = self._cut(pieces[place]) if place < len(pieces) else 0
        self._bury(self._sent, place)
        if self._fresh:
            # A session that begins misses nothing: so much for the numbers.
            for grave in pieces[: min(place, 1)]:
                self.dropped.add(grave.count, grave.size)
            self.dropped.add(0, cut)
            self.gaps += place > 0 or cut > 0
            del pieces[: min(place, 1)]
            place = 0
        else:
            grave = pieces[self._sent]
            grave.number, grave.skipped = self.due, True
            grave.size += cut
            self.due += grave.count
            self._sent = place = self._sent + 1
            known = grave.at and place < len(pieces)
            said.append(messages.skip(self.due, _REASON, pieces[place].at - grave.at if known else None))
        if place < len(pieces):
            self._fresh = False
            self._lead_in(place)
        return place

    def _cut(self, piece: _Piece) -> int:
        """Let *piece* begin at its random access point; returns how many bytes that takes off."""
        cut = (piece.access or 0) if piece.start > 0 else 0
        piece.data, piece.start, piece.size = piece.data[cut:], piece.start + cut, piece.size - cut
        if cut:
            piece.access = 0
            self._kept.add(0, -cut)
        return cut

    def _lead_in(self, place: int) -> None:
        """Headers before the piece at *place*, if it needs them and the server does not have them."""
        piece = self._pieces[place]
        recorder = piece.recorder
        if piece.start <= 0 or recorder.header_in is not None:
            return
        header = recorder.scan.header
        self._pieces.insert(place, _Piece(recorder, _AGAIN, header, 0, piece.at))
        piece.header = True  # a demuxer knows the end of the headers by what follows them
        self.given.add(1, 0)
        self._kept.add(1, len(header))
        recorder.number = None  # one that goes on has none of them

    def _fit(self, place: int) -> _Piece:
        """The piece at *place*, no longer than the server allows; its rest goes behind it."""
        piece, most = self._pieces[place], self._most
        if len(piece.data) > most:
            again = piece.start == _AGAIN
            rest = _Piece(
                piece.recorder, 1 if again else piece.start + most, piece.data[most:],
                0 if again else piece.size - most, piece.at, header=piece.header,
            )  # fmt: skip
            if piece.access is not None and piece.access >= most:
                rest.access, piece.access = piece.access - most, None
            piece.data, piece.size, piece.header = piece.data[:most], piece.size - rest.size, False
            self._pieces.insert(place + 1, rest)
            self.given.add(1, 0)
            self._kept.add(1, 0)
        return piece

    def _announce(self, recorder: Recorder) -> list[str | bytes]:
        if recorder.number is None:
            recorder.number, self._next_recorder = self._next_recorder, self._next_recorder + 1
        if recorder.number == self._announced:
            return []
        self._announced = recorder.number
        return [messages.recorder(recorder.number, recorder.mime, follows=recorder.follows)]

    def _settle(self, following: int) -> None:
        done = 0
        for piece in self._pieces[: self._sent]:
            if piece.number is None or piece.number + piece.count > following:
                break
            done += 1
            if piece.lost and piece.skipped:
                self.gaps += 1
                self.dropped.add(piece.count, piece.size)
            else:
                self.acknowledged.add(piece.count, piece.size)
            if not piece.lost:
                self._kept.add(-1, -len(piece.data))
        del self._pieces[:done]
        self._sent -= done
        self._floor, self._acked = max(self._floor, following), max(self._acked, following)

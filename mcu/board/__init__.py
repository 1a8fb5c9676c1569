"""A real board over its serial line: the self test of an exported library, and what it measures."""

from mcu.board.latency import MeasuredLatency
from mcu.board.port import BAUD, open_port
from mcu.board.protocol import Board, BoardModel, BoardRun
from mcu.board.session import Session

__all__ = ["BAUD", "Board", "BoardModel", "BoardRun", "MeasuredLatency", "Session", "open_port"]

"""The application of the outbox's tests, and of the processes that they start."""

from __future__ import annotations

from pydantic import BaseModel
from sqlalchemy import Column, Integer, MetaData, Table
from sqlalchemy.orm import registry

from horae import Horae
from horae.outbox import Outbox

app = Horae("shop")
metadata = MetaData()
orders = Table("orders", metadata, Column("number", Integer, primary_key=True))
outbox = Outbox(metadata)


class Order:
    """A mapped class."""

    def __init__(self, number: int) -> None:
        self.number = number


registry().map_imperatively(Order, orders)


class Remind(BaseModel):
    number: int


@app.command
async def remind(command: Remind) -> int:
    return command.number

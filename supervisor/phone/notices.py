"""Delivers the callbacks of calls: in order per call, again and again until they are taken."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from supervisor.phone.phone_record import Notice, PhoneRecord
from supervisor.phone.webhooks import WebhookError, Webhooks

log = structlog.get_logger()

RETRY_AFTER_S: Final = (0.5, 2.0, 8.0, 30.0)
"""Waits between the attempts; after the last one a callback is given up."""
MOST_WAITING: Final = 100
"""Callbacks that one call can have waiting; more are dropped, and the log says so."""


class Notices:
    """Owns the tasks that deliver; `save` keeps a record whose notices have changed."""

    def __init__(self, webhooks: Webhooks, save: Callable[[PhoneRecord], None]) -> None:
        self._webhooks = webhooks
        self._save = save
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def add(self, record: PhoneRecord, notice: Notice) -> None:
        """Deliver this after all that the call has waiting."""
        if len(record.notices) >= MOST_WAITING:
            log.warning("callback_dropped", call_id=record.sid, waiting=len(record.notices))
            return
        record.notices.append(notice)
        self._save(record)
        self.deliver(record)

    def deliver(self, record: PhoneRecord) -> None:
        """Begin to deliver what a call has waiting, unless that is under way."""
        if record.notices and record.sid not in self._tasks:
            task = asyncio.create_task(self._deliver(record))
            self._tasks[record.sid] = task
            task.add_done_callback(lambda _: self._tasks.pop(record.sid, None))

    async def close(self, seconds: float) -> None:
        """Wait so long for what is under way; what remains waits for the next supervisor."""
        tasks = list(self._tasks.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _deliver(self, record: PhoneRecord) -> None:
        while record.notices:
            await self._post(record.sid, record.notices[0])
            record.notices.pop(0)
            self._save(record)

    async def _post(self, sid: str, notice: Notice) -> None:
        for wait_s in (*RETRY_AFTER_S, None):
            try:
                await self._webhooks.ask(notice.url, notice.method, notice.form)
            except WebhookError as error:
                log.warning("callback_failed", call_id=sid, reason=str(error), again_in_s=wait_s)
                if wait_s is None:
                    return
                await asyncio.sleep(wait_s)
            else:
                return

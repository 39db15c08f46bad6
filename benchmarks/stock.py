"""The task that a Django developer would otherwise write: one Celery task per report, with `S3Storage.save()`.

It is as fast as such a task can be: the storage object and the database connection are kept for the life of the
process, while many developers would create them for each task.
"""

import os
from functools import cache
from typing import Any

from django.core.files.base import File
from django.utils import timezone

from anaphora.celery import app

app.conf["CELERY_DB_REUSE_MAX"] = 10**9  # otherwise Celery closes the database connection after each task

QUEUE = os.environ["ANAPHORA_TEST_QUEUE"] + "-stock"


@cache
def _storage() -> Any:
    from storages.backends.s3 import S3Storage

    return S3Storage(
        access_key="KEY",
        secret_key="SECRET",
        bucket_name="bucket",
        endpoint_url=os.environ["BENCH_ENDPOINT"],
        region_name="us-east-1",
        addressing_style="path",
        signature_version="s3v4",
    )


@app.task(name="benchmarks.stock.save", queue=QUEUE)
def save(delivery_id: int) -> None:
    """Upload one report, and record it."""
    from anaphora.deliveries.models import Delivery, State

    delivery = Delivery.objects.select_related("report").get(pk=delivery_id)
    with delivery.report.local_path.open("rb") as body:
        name = _storage().save(f"reports/{delivery.report.sha256}.pdf", File(body))
    Delivery.objects.filter(pk=delivery_id).update(
        state=State.DELIVERED, object_key=name, size=delivery.report.size, delivered_at=timezone.now()
    )

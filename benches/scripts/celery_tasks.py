"""The Celery application that compare_celery.py measures: one task, which returns its params."""

import os

from celery import Celery

app = Celery("celery_tasks", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])
app.conf.update(
    task_acks_late=True,
    worker_prefetch_multiplier=32,  # for each of 2 processes: 64 in all
    broker_connection_retry_on_startup=True,
)


@app.task(name="echo")
def echo(params):
    return params

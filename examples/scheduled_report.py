from datetime import UTC, datetime

from fairque import TaskQueue, TaskScheduler, Worker, current_task, task


@task
def report(kind: str) -> str:
    return f"the {kind} report of {current_task().user_id}"


if __name__ == "__main__":
    with TaskQueue("embedded://") as queue, TaskScheduler(queue) as scheduler, Worker(queue):
        scheduler.start()
        daily = scheduler.add_schedule(
            "30 2 * * *", report("daily"), user_id="acme", timezone="Europe/Berlin", schedule_id="daily"
        )
        for moment in daily.next_fire_times(3, after=datetime(2027, 3, 27, tzinfo=UTC)):
            print(moment.isoformat())
        print(scheduler.trigger_now("acme", "daily").result(timeout=10))

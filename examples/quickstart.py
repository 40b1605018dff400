from fairque import TaskQueue, Worker, task


@task(max_retries=3, timeout=30)
def resize(image: str, width: int) -> str:
    print(f"resizing {image}")
    return f"{image} is {width} px wide now"


if __name__ == "__main__":
    with TaskQueue("embedded://") as queue:
        queue.push_batch([resize(f"acme-{n}.png", 4000) for n in range(3)], user_id="acme")
        handle = queue.push(resize("cat.png", 200), user_id="globex")
        Worker(queue, concurrency=1, burst=True).run()
        print(handle.result(timeout=10))

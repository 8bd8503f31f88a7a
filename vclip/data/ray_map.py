"""`ray_map`: the work of `extract` on a Ray cluster, one process a card."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

TRIES = 3  # of a video whose process dies


class _Worker:
    function: Any = None

    def work(self, shared: list, item):
        import ray  # pyright: ignore[reportMissingImports]

        self.function = self.function or ray.get(shared[0])
        return self.function(item)


def ray_map(function: Callable, items: Iterable, actors: int | None = None) -> Iterator:
    """The `map` of `extract` that runs on a Ray cluster: `RAY_ADDRESS`, or one on this machine, started if need be.

    Each actor holds the encoder, and a card if the cluster has any, else a CPU core. One that dies is started again
    with its video; a video with which it died three times is a failed row. Every machine must see the videos at the
    same path; the corpus is written by this process alone.

    Args:
        function, items: as `extract` gives them.
        actors: how many, for a cluster that grows; None: one for each card or core that it has.

    Yields:
        Results in the order in which they are ready.

    Raises:
        ImportError: without Ray.

    Example:
        >>> extract("my_videos", "my_corpus", "efficientnet-lite0", map=ray_map)  # doctest: +SKIP
    """
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError("Ray is not installed: pip install 'vclip[ray]', not beside JupyterLab") from error
    if not ray.is_initialized():
        ray.init()
    resources = ray.cluster_resources()
    kind = "GPU" if resources.get("GPU") else "CPU"
    place = {"num_gpus": 1} if kind == "GPU" else {"num_cpus": 1}
    actor_class: Any = ray.remote(max_restarts=-1, max_task_retries=TRIES - 1, **place)(_Worker)
    shared, items = [ray.put(function)], iter(items)  # in a list: each actor loads it once, not for each video
    pool = [actor_class.remote() for _ in range(actors or int(resources[kind]))]
    # an actor gets a video when it is ready: one that the cluster has no room for yet keeps none waiting
    busy = {actor.__ray_ready__.remote(): (actor, None) for actor in pool}
    try:
        following = next(items, None)
        while following is not None or any(item is not None for _, item in busy.values()):
            (done,), _ = ray.wait(list(busy))
            actor, item = busy.pop(done)
            try:
                result = ray.get(done)
            except ray.exceptions.RayActorError as error:
                if item is None:
                    raise
                result = item.failed(f"{item.file}: its process died {TRIES} times ({str(error).splitlines()[0]})")
                busy[actor.__ray_ready__.remote()] = actor, None
            else:
                if following is not None:
                    busy[actor.work.remote(shared, following)] = actor, following
                    following = next(items, None)
                else:  # makes room for one that died and waits to be started again
                    ray.kill(actor)
            if item is not None:
                yield result
    finally:
        for actor in pool:
            ray.kill(actor)

"""`ray_map`: the work of `extract` on a Ray cluster."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from vclip.data.text import printable


class _Worker:
    function: Any = None

    def work(self, shared: list, item):
        import ray  # pyright: ignore[reportMissingImports]

        self.function = self.function or ray.get(shared[0])  # once for all videos
        return self.function(item)


def ray_map(function: Callable, items: Iterable, actors: int | None = None) -> Iterator:
    """The `map` of `extract` on a Ray cluster: that of `RAY_ADDRESS`, else one on this machine, started if need be.

    Each actor holds the encoder, and a card if the cluster has any, else a CPU core. One that dies is started again
    with its video, which the third time is a failed row. Every machine must see the videos at the same path.

    Args:
        function, items: as `extract` gives them.
        actors: how many, for a cluster that grows; None: one for each card or core that it has.

    Yields:
        Results in the order in which they are ready.

    Example:
        >>> extract("my_videos", "my_corpus", "efficientnet-lite0", map=ray_map)  # doctest: +SKIP
    """
    import ray  # pyright: ignore[reportMissingImports]

    shared, items, cluster = [ray.put(function)], iter(items), ray.cluster_resources()
    place, n = ("num_gpus", cluster["GPU"]) if cluster.get("GPU") else ("num_cpus", cluster["CPU"])
    actor_class: Any = ray.remote(max_restarts=-1, max_task_retries=2, **{place: 1})(_Worker)
    pool = [actor_class.remote() for _ in range(actors or int(n))]
    # an actor gets a video when it is ready: one that the cluster has no room for yet keeps none waiting
    busy = {actor.__ray_ready__.remote(): (actor, None) for actor in pool}
    following = next(items, None)
    try:
        while following or any(item for _, item in busy.values()):
            (done,), _ = ray.wait(list(busy))
            actor, item = busy.pop(done)
            try:
                result = ray.get(done)
            except ray.exceptions.RayActorError as error:
                if item is None:
                    raise
                died = printable(f"{item[1]}: its process died 3 times ({str(error).splitlines()[0]})")
                result = item[0]._replace(status="failed", error=died), None, None
                busy[actor.__ray_ready__.remote()] = actor, None
            else:
                if following:
                    busy[actor.work.remote(shared, following)] = actor, following
                    following = next(items, None)
                else:  # makes room for one that died and waits to be started again
                    ray.kill(actor)
            if item:
                yield result
    finally:
        for actor in pool:
            ray.kill(actor)

"""`vclip.extract` on a Ray cluster: `python data_samples/extract_on_ray.py my_videos my_corpus efficientnet-lite0`.

It runs on the cluster of `RAY_ADDRESS`, else on one on this machine. Each actor holds the encoder, and a card if the
cluster has any, else a CPU core. One that dies is started again with its video, which the third time is a failed row.
Killed and started again, the script goes on with the videos that are left. Every machine must see the videos at the
same path. It needs `pip install -e '.[ray]'`.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import ray  # pyright: ignore[reportMissingImports]

import vclip
from vclip.data.text import printable


class Worker:
    function: Any = None

    def work(self, shared: list, item):
        self.function = self.function or ray.get(shared[0])  # once for all videos
        return self.function(item)


def ray_map(function: Callable, items: Iterable, actors: int | None = None) -> Iterator:
    """The `map` of `extract`: results in the order in which they are ready.

    Args:
        function, items: as `extract` gives them.
        actors: how many, for a cluster that grows; None: one for each card or core that it has.
    """
    shared, items, cluster = [ray.put(function)], iter(items), ray.cluster_resources()
    place, n = ("num_gpus", cluster["GPU"]) if cluster.get("GPU") else ("num_cpus", cluster["CPU"])
    actor_class: Any = ray.remote(max_restarts=-1, max_task_retries=2, **{place: 1})(Worker)
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", help="a folder of video files")
    parser.add_argument("out", help="the folder of the corpus")
    parser.add_argument("encoder", help="a name that vclip.load_encoder knows")
    parser.add_argument("--weights", help="file or folder of the encoder's weights")
    parser.add_argument("--fps", type=int, help="frames a second (default: the encoder's own)")
    parser.add_argument("--actors", type=int, help="how many (default: one for each card or core)")
    given = parser.parse_args()
    encoder = vclip.load_encoder(given.encoder, given.weights, given.fps)
    print(vclip.extract(given.videos, given.out, encoder, map=partial(ray_map, actors=given.actors)))

# SPDX-License-Identifier: Apache-2.0
import common


def main():
    slots = common.begin()
    import dask
    import distributed

    # One process per slot: threads would share one interpreter lock, which
    # halves the rate. No dashboard and no memory limit: both cost time.
    with distributed.LocalCluster(
        n_workers=slots, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None, memory_limit=0
    ) as cluster, distributed.Client(cluster) as client:
        client.gather(client.map(common.identity, range(200), pure=False))
        common.serve(
            dask.__version__,
            {
                "noop": lambda n: common.timed(
                    lambda: client.gather(client.map(common.identity, range(n), pure=False)), list(range(n))
                ),
                "process": lambda n: common.timed(
                    lambda: client.gather(client.map(common.true, range(n), pure=False)), [0] * n
                ),
                "start": lambda n: common.starts(
                    n, lambda script: client.submit(common.shell, script, pure=False), lambda f: f.result()
                ),
            },
        )


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
import os

import common


def main():
    slots = common.begin()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    ray.init(
        num_cpus=slots,
        include_dashboard=False,
        object_store_memory=256 << 20,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
        _temp_dir=os.path.join(os.getcwd(), "ray"),
    )
    identity, true, shell = (ray.remote(f) for f in (common.identity, common.true, common.shell))
    ray.get([identity.remote(i) for i in range(200)])
    ray.get(shell.remote("exit 0"))
    common.serve(
        ray.__version__,
        {
            "noop": lambda n: common.timed(lambda: ray.get([identity.remote(i) for i in range(n)]), list(range(n))),
            "process": lambda n: common.timed(lambda: ray.get([true.remote(i) for i in range(n)]), [0] * n),
            "start": lambda n: common.starts(n, shell.remote, ray.get),
        },
    )
    ray.shutdown()


if __name__ == "__main__":
    main()

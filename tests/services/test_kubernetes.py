"""What docs/kubernetes.md gives to a cluster: the pool's template makes a Job, and a Prefect server takes it."""

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace

import httpx
import jsonschema
import pytest
import yaml
from prefect.client.orchestration import PrefectClient

from flows import servers
from tests.services.servers import started

worker_module = pytest.importorskip("prefect_kubernetes.worker")
cluster = pytest.importorskip("kubernetes_asyncio.client")

DEPLOY = Path(__file__).parents[2] / "deploy/kubernetes"
POOL = json.loads((DEPLOY / "work-pool.json").read_text())
WORKER = list(yaml.safe_load_all((DEPLOY / "worker.yaml").read_text()))
CLAIM = yaml.safe_load((DEPLOY / "project.yaml").read_text())


def job_of(**variables: object) -> dict:
    """The manifest that the worker sends, less what Prefect adds for a single run."""
    unused = PrefectClient("http://127.0.0.1:1/api")  # the template refers to nothing that a server keeps
    configured = worker_module.KubernetesWorkerJobConfiguration.from_template_and_values(
        POOL, {"command": "true", **variables}, client=unused
    )
    manifest = asyncio.run(configured).job_manifest
    container = manifest["spec"]["template"]["spec"]["containers"][0]
    container["env"] = [{"name": name, "value": value} for name, value in container["env"].items()]
    container["args"] = container["args"].split()
    return manifest


def as_kind(manifest: dict) -> object:
    """Read by the cluster's own client as what it says it is, which refuses absent fields and wrong types.

    Prefect's own template puts two fields of a Job into its pod, where a cluster passes over them.
    """
    kind = {"Job": "V1Job", "Deployment": "V1Deployment", "PersistentVolumeClaim": "V1PersistentVolumeClaim"}

    async def read() -> object:
        async with cluster.ApiClient() as client:
            return client.deserialize(SimpleNamespace(data=json.dumps(manifest)), kind[manifest["kind"]])

    return asyncio.run(read())


def test_the_defaults_meet_the_schema_of_the_variables():
    jsonschema.Draft202012Validator.check_schema(POOL["variables"])
    defaults = {name: of["default"] for name, of in POOL["variables"]["properties"].items() if "default" in of}
    jsonschema.validate(defaults, POOL["variables"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"gpus": -1}, POOL["variables"])


def test_all_that_prefects_own_template_can_be_told_this_can_be_told_too():
    own = worker_module.KubernetesWorker.get_default_base_job_template()
    assert own["variables"]["properties"].keys() <= POOL["variables"]["properties"].keys()
    assert own["job_configuration"].keys() == POOL["job_configuration"].keys()


def test_the_job_is_one_that_a_cluster_reads():
    job = as_kind(job_of(gpus=2, memory_limit="32Gi", image="registry.example.org/study:1"))
    [container] = job.spec.template.spec.containers
    assert container.image == "registry.example.org/study:1"
    assert container.resources.limits == {"memory": "32Gi", "nvidia.com/gpu": "2"}
    assert job.spec.ttl_seconds_after_finished == 86400
    assert job.spec.backoff_limit == 0


def test_the_job_works_in_the_shared_folder_and_has_its_secrets_from_the_cluster():
    pod = as_kind(job_of(project_claim="shelf", project_path="/work", secret="keys")).spec.template.spec
    [container] = pod.containers
    assert pod.volumes[0].persistent_volume_claim.claim_name == "shelf"
    assert {mount.name: mount.mount_path for mount in container.volume_mounts}["project"] == "/work"
    assert container.working_dir == "/work"
    assert [source.secret_ref.name for source in container.env_from] == ["keys"]
    assert {variable.name for variable in container.env} == {"HOME", "DVC_SITE_CACHE_DIR", "MPLCONFIGDIR"}


def pods() -> list:
    """Those of a run and of the worker."""
    [deployment] = [document for document in WORKER if document["kind"] == "Deployment"]
    return [as_kind(job_of()).spec.template.spec, as_kind(deployment).spec.template.spec]


@pytest.mark.parametrize("number", [0, 1], ids=["job", "worker"])
def test_no_pod_has_more_rights_than_it_needs(number):
    pod = pods()[number]
    [container] = pod.containers
    assert pod.security_context.run_as_non_root
    assert pod.security_context.seccomp_profile.type == "RuntimeDefault"
    assert not container.security_context.allow_privilege_escalation
    assert container.security_context.capabilities.drop == ["ALL"]
    assert not container.ports


def test_only_the_worker_may_speak_to_the_cluster_and_only_about_jobs_of_its_namespace():
    job, worker = pods()
    assert job.automount_service_account_token is False
    assert job.service_account_name is None
    [role] = [document for document in WORKER if document["kind"] == "Role"]
    writes = {tuple(rule["resources"]) for rule in role["rules"] if "create" in rule["verbs"]}
    assert (writes, worker.service_account_name) == ({("jobs",)}, role["metadata"]["name"])
    assert {document["metadata"]["namespace"] for document in [*WORKER, CLAIM]} == {"study"}


def test_worker_and_jobs_share_the_volume_that_many_may_write():
    claim, (job, worker) = as_kind(CLAIM), pods()
    assert claim.spec.access_modes == ["ReadWriteMany"]
    for pod in (job, worker):
        assert pod.volumes[0].persistent_volume_claim.claim_name == claim.metadata.name
        assert pod.containers[0].working_dir == "/study"


def test_a_prefect_server_takes_the_pool_and_the_variables_of_a_run(tmp_path):
    pool = {"name": "study", "type": "kubernetes", "base_job_template": POOL}
    with started(servers.SERVERS["prefect"], tmp_path) as url, httpx.Client(base_url=f"{url}/api") as client:
        client.post("/work_pools/", json=pool).raise_for_status()
        assert client.get("/work_pools/study").json()["base_job_template"] == POOL
        flow = client.post("/flows/", json={"name": "study"}).json()["id"]
        deployment = {"name": "study", "flow_id": flow, "work_pool_name": "study", "enforce_parameter_schema": False}
        assert client.post("/deployments/", json={**deployment, "job_variables": {"gpus": 1}}).status_code == 201
        refused = client.post("/deployments/", json={**deployment, "name": "bad", "job_variables": {"gpus": "many"}})
        assert refused.status_code == 422

"""What the Kubernetes client of PyPI is used for, on the API server of KUBECONFIG. Prints "ok" at its end."""

import threading

from kubernetes import client, config, watch
from kubernetes.client.rest import ApiException

config.load_kube_config()
core, apps, rbac = client.CoreV1Api(), client.AppsV1Api(), client.RbacAuthorizationV1Api()

assert client.VersionApi().get_code().major == "1"
core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name="py")))

# Typed objects, there and back.
deployment = client.V1Deployment(
    metadata=client.V1ObjectMeta(name="web", labels={"app": "web"}),
    spec=client.V1DeploymentSpec(
        replicas=2,
        selector=client.V1LabelSelector(match_labels={"app": "web"}),
        template=client.V1PodTemplateSpec(
            metadata=client.V1ObjectMeta(labels={"app": "web"}),
            spec=client.V1PodSpec(
                containers=[
                    client.V1Container(
                        name="c",
                        image="nginx",
                        ports=[client.V1ContainerPort(container_port=80)],
                        resources=client.V1ResourceRequirements(requests={"cpu": "0.5", "memory": "1Gi"}),
                    )
                ]
            ),
        ),
    ),
)
made = apps.create_namespaced_deployment("py", deployment)
assert made.metadata.uid and made.metadata.generation == 1
assert made.spec.template.spec.containers[0].resources.requests["cpu"] == "500m"
assert made.spec.strategy.rolling_update.max_surge == "25%"

# The four patches; lists of dictionaries are JSON patches, dictionaries strategic merges.
patched = apps.patch_namespaced_deployment("web", "py", {"spec": {"replicas": 3}})
assert patched.spec.replicas == 3 and patched.metadata.generation == 2
patched = apps.patch_namespaced_deployment("web", "py", [{"op": "replace", "path": "/spec/replicas", "value": 4}])
assert patched.spec.replicas == 4
scale = apps.read_namespaced_deployment_scale("web", "py")
assert scale.spec.replicas == 4 and scale.status.selector == "app=web"

# A conflict, a refusal, an absence.
stale = apps.read_namespaced_deployment("web", "py")
apps.patch_namespaced_deployment("web", "py", {"metadata": {"labels": {"x": "y"}}})
for change, code, reason in [
    (lambda: apps.replace_namespaced_deployment("web", "py", stale), 409, "Conflict"),
    (lambda: core.read_namespaced_pod("none", "py"), 404, "NotFound"),
    (lambda: core.create_namespaced_config_map("py", {"metadata": {"name": "A"}}), 422, "Invalid"),
]:
    try:
        change()
        raise AssertionError(f"{reason} expected")
    except ApiException as refused:
        assert refused.status == code and f'"reason":"{reason}"' in refused.body.replace(" ", ""), refused

# Pages of one consistent list.
for number in range(7):
    core.create_namespaced_config_map("py", client.V1ConfigMap(metadata=client.V1ObjectMeta(name=f"c{number}")))
names, page = [], core.list_namespaced_config_map("py", limit=3)
while True:
    names += [item.metadata.name for item in page.items]
    if not page.metadata._continue:
        break
    page = core.list_namespaced_config_map("py", limit=3, _continue=page.metadata._continue)
assert [name for name in names if name.startswith("c")] == [f"c{number}" for number in range(7)], names

# A watch sees what another thread does.
seen, begun = [], core.list_namespaced_config_map("py").metadata.resource_version


def act():
    core.create_namespaced_config_map("py", client.V1ConfigMap(metadata=client.V1ObjectMeta(name="seen")))
    core.patch_namespaced_config_map("seen", "py", {"data": {"k": "v"}})
    core.delete_namespaced_config_map("seen", "py")


thread = threading.Thread(target=act)
thread.start()
stream = watch.Watch()
for event in stream.stream(
    core.list_namespaced_config_map, "py", resource_version=begun, field_selector="metadata.name=seen", timeout_seconds=30
):
    seen.append(event["type"])
    if event["type"] == "DELETED":
        stream.stop()
thread.join()
assert seen == ["ADDED", "MODIFIED", "DELETED"], seen

# Answers that are not kept.
review = client.AuthorizationV1Api().create_self_subject_access_review(
    client.V1SelfSubjectAccessReview(
        spec=client.V1SelfSubjectAccessReviewSpec(
            resource_attributes=client.V1ResourceAttributes(verb="delete", resource="nodes")
        )
    )
)
assert review.status.allowed
core.create_namespaced_service_account("py", client.V1ServiceAccount(metadata=client.V1ObjectMeta(name="robot")))
token = core.create_namespaced_service_account_token(
    "robot", "py", client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=600))
).status.token

# The token is somebody, and may do what a role says, no more.
rbac.create_namespaced_role(
    "py",
    client.V1Role(
        metadata=client.V1ObjectMeta(name="reader"),
        rules=[client.V1PolicyRule(api_groups=[""], resources=["configmaps"], verbs=["list"])],
    ),
)
rbac.create_namespaced_role_binding(
    "py",
    client.V1RoleBinding(
        metadata=client.V1ObjectMeta(name="reader"),
        role_ref=client.V1RoleRef(api_group="rbac.authorization.k8s.io", kind="Role", name="reader"),
        subjects=[client.RbacV1Subject(kind="ServiceAccount", name="robot", namespace="py")],
    ),
)
settings = client.Configuration.get_default_copy()
settings.cert_file = settings.key_file = None
settings.api_key = {"authorization": "Bearer " + token}
robot = client.CoreV1Api(client.ApiClient(settings))
assert len(robot.list_namespaced_config_map("py").items) >= 7
try:
    robot.list_namespaced_secret("py")
    raise AssertionError("robot may not list secrets")
except ApiException as refused:
    assert refused.status == 403 and "system:serviceaccount:py:robot" in refused.body, refused

core.delete_collection_namespaced_config_map("py", label_selector="!keep")
assert not [c for c in core.list_namespaced_config_map("py").items if c.metadata.name.startswith("c")]
apps.delete_namespaced_deployment("web", "py", propagation_policy="Background")
print("ok")

//! Tables of containers.

use super::*;

fn check(table: &[(Value, &[&str])]) {
    let table: Vec<_> = table.iter().map(|(change, expected)| (container(change), *expected)).collect();
    check_create(&pod(), &table);
}

#[test]
fn names_images_and_policies() {
    check(&[
        (json!({"name": null}), &["spec.containers[0].name: Required value"]),
        (
            json!({"name": "A_b"}),
            &[
                "spec.containers[0].name: Invalid value: \"A_b\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            ],
        ),
        (json!({"image": null}), &["spec.containers[0].image: Required value"]),
        (
            json!({"image": " x "}),
            &[
                "spec.containers[0].image: Invalid value: \" x \": must not have leading or trailing whitespace",
            ],
        ),
        (
            json!({"imagePullPolicy": "Sometimes"}),
            &[
                "spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
            ],
        ),
        (
            json!({"terminationMessagePolicy": "No"}),
            &[
                "spec.containers[0].terminationMessagePolicy: Unsupported value: \"No\": supported values: \"File\", \"FallbackToLogsOnError\"",
            ],
        ),
    ]);
    check_create(
        &pod(),
        &[
            (json!({"spec": {"containers": null}}), &["spec.containers: Required value"]),
            (
                json!({"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "a", "image": "y"}]}}),
                &["spec.containers[1].name: Duplicate value: \"a\""],
            ),
            (
                json!({"spec": {"initContainers": [{"name": "main", "image": "x"}]}}),
                &["spec.initContainers[0].name: Duplicate value: \"main\""],
            ),
            (
                json!({"spec": {"initContainers": [{"name": "i", "image": "x", "livenessProbe": {"exec": {"command": ["a"]}}}]}}),
                &[
                    "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
                ],
            ),
            (
                json!({"spec": {"initContainers": [{"name": "i", "image": "x", "restartPolicy": "Always", "livenessProbe": {"exec": {"command": ["a"]}}}]}}),
                &[],
            ),
            (
                json!({"spec": {"ephemeralContainers": [{"name": "i", "image": "x"}]}}),
                &["spec.ephemeralContainers: Forbidden: cannot be set on create"],
            ),
        ],
    );
}

#[test]
fn ports() {
    check(&[
        (
            json!({"ports": [{"containerPort": 0}]}),
            &["spec.containers[0].ports[0].containerPort: Required value"],
        ),
        (
            json!({"ports": [{"containerPort": 70000}]}),
            &[
                "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            ],
        ),
        (
            json!({"ports": [{"containerPort": 1, "protocol": "ICMP"}]}),
            &[
                "spec.containers[0].ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            ],
        ),
        (
            json!({"ports": [{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]}),
            &["spec.containers[0].ports[1].name: Duplicate value: \"a\""],
        ),
        (
            json!({"ports": [{"containerPort": 1, "name": "no_way"}]}),
            &[
                "spec.containers[0].ports[0].name: Invalid value: \"no_way\": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
            ],
        ),
        (
            json!({"ports": [{"containerPort": 1, "hostPort": 5}, {"containerPort": 2, "hostPort": 5}]}),
            &["spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//5\""],
        ),
    ]);
    let host = with(
        &container(&json!({"ports": [{"containerPort": 1, "hostPort": 5}]})),
        &json!({"spec": {"hostNetwork": true}}),
    );
    check_create(
        &pod(),
        &[(
            host,
            &[
                "spec.containers[0].ports[0].hostPort: Invalid value: 5: must match `containerPort` when `hostNetwork` is true",
            ],
        )],
    );
}

#[test]
fn variables() {
    let env = |from: Value| json!({"env": [{"name": "A", "valueFrom": from}]});
    check(&[
        (json!({"env": [{"value": "x"}]}), &["spec.containers[0].env[0].name: Required value"]),
        (
            json!({"env": [{"name": "a=b"}]}),
            &[
                "spec.containers[0].env[0].name: Invalid value: \"a=b\": a valid environment variable name must consist only of printable ASCII characters other than '='",
            ],
        ),
        (
            json!({"env": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}),
            &[
                "spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
            ],
        ),
        (
            env(json!({})),
            &[
                "spec.containers[0].env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
            ],
        ),
        (env(json!({"fieldRef": {"fieldPath": "metadata.labels['a']"}})), &[]),
        (
            env(json!({"fieldRef": {"fieldPath": "metadata.name['a']"}})),
            &[
                "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"metadata.name['a']\": error converting fieldPath: field label does not support subscript: metadata.name['a']",
            ],
        ),
        (
            env(json!({"fieldRef": {"fieldPath": "spec.x"}})),
            &[
                "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.x\": error converting fieldPath: field label not supported: spec.x",
            ],
        ),
        (
            env(json!({"configMapKeyRef": {"name": "m", "key": "a/b"}})),
            &[
                "spec.containers[0].env[0].valueFrom.configMapKeyRef.key: Invalid value: \"a/b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
            ],
        ),
        (
            env(json!({"resourceFieldRef": {"resource": "limits.x"}})),
            &[
                "spec.containers[0].env[0].valueFrom.resourceFieldRef.resource: Unsupported value: \"limits.x\": supported values: \"limits.cpu\", \"limits.ephemeral-storage\", \"limits.memory\", \"requests.cpu\", \"requests.ephemeral-storage\", \"requests.memory\"",
            ],
        ),
        (
            env(json!({"resourceFieldRef": {"resource": "limits.cpu", "divisor": "2"}})),
            &[
                "spec.containers[0].env[0].valueFrom.resourceFieldRef.divisor: Invalid value: \"limits.cpu\": only divisor's values 1m and 1 are supported with the cpu resource",
            ],
        ),
        (
            json!({"envFrom": [{"prefix": "X"}]}),
            &[
                "spec.containers[0].envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`",
            ],
        ),
    ]);
}

#[test]
fn probes_and_hooks() {
    let probe = |probe: Value| json!({"livenessProbe": probe});
    check(&[
        (
            probe(json!({})),
            &["spec.containers[0].livenessProbe: Required value: must specify a handler type"],
        ),
        (
            probe(json!({"exec": {"command": ["a"]}, "tcpSocket": {"port": 1}})),
            &[
                "spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
            ],
        ),
        (probe(json!({"exec": {}})), &["spec.containers[0].livenessProbe.exec.command: Required value"]),
        (
            probe(json!({"httpGet": {"port": "UPPER", "scheme": "FTP"}})),
            &[
                "spec.containers[0].livenessProbe.httpGet.port: Invalid value: \"UPPER\": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
                "spec.containers[0].livenessProbe.httpGet.port: Invalid value: \"UPPER\": must contain at least one letter (a-z)",
                "spec.containers[0].livenessProbe.httpGet.scheme: Unsupported value: \"FTP\": supported values: \"HTTP\", \"HTTPS\"",
            ],
        ),
        (
            probe(json!({"tcpSocket": {"port": 0}})),
            &[
                "spec.containers[0].livenessProbe.tcpSocket.port: Invalid value: 0: must be between 1 and 65535, inclusive",
            ],
        ),
        (
            probe(json!({"tcpSocket": {"port": 1}, "successThreshold": 2, "periodSeconds": -1})),
            &[
                "spec.containers[0].livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
                "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
            ],
        ),
        (
            json!({"readinessProbe": {"tcpSocket": {"port": 1}, "terminationGracePeriodSeconds": 5}}),
            &[
                "spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set for readinessProbes",
            ],
        ),
        (
            json!({"lifecycle": {"preStop": {"sleep": {"seconds": 31}}}}),
            &[
                "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
            ],
        ),
    ]);
}

#[test]
fn resources() {
    let of = |resources: Value| json!({"resources": resources});
    check(&[
        (
            of(json!({"limits": {"cpu": "1"}, "requests": {"cpu": "2"}})),
            &[
                "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
            ],
        ),
        (
            of(json!({"limits": {"cpu": "-1"}})),
            &[
                "spec.containers[0].resources.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
                "spec.containers[0].resources.requests[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
            ],
        ),
        (
            of(json!({"requests": {"foo": "1"}})),
            &[
                "spec.containers[0].resources.requests[foo]: Invalid value: \"foo\": must be a standard resource type or fully qualified",
                "spec.containers[0].resources.requests[foo]: Invalid value: \"foo\": must be a standard resource for containers",
            ],
        ),
        (
            of(json!({"requests": {"x.io/gpu": "1"}})),
            &[
                "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
            ],
        ),
        (
            of(json!({"limits": {"x.io/gpu": "1500m"}})),
            &[
                "spec.containers[0].resources.limits[x.io/gpu]: Invalid value: \"1500m\": must be an integer",
                "spec.containers[0].resources.requests[x.io/gpu]: Invalid value: \"1500m\": must be an integer",
            ],
        ),
        (
            of(json!({"limits": {"hugepages-2Mi": "2Mi"}})),
            &["spec.containers[0].resources: Forbidden: HugePages require cpu or memory"],
        ),
        (
            of(json!({"limits": {"hugepages-2Mi": "3Mi", "cpu": "1"}})),
            &[
                "spec.containers[0].resources.limits[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
                "spec.containers[0].resources.requests[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
            ],
        ),
        (
            of(json!({"claims": [{"name": "c"}]})),
            &[
                "spec.containers[0].resources.claims[0]: Not found: \"c\": must be one of the names in pod.spec.resourceClaims which is empty",
            ],
        ),
    ]);
}

#[test]
fn security_contexts() {
    let of = |context: Value| json!({"securityContext": context});
    check(&[
        (
            of(json!({"runAsUser": -1})),
            &[
                "spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
            ],
        ),
        (
            of(json!({"privileged": true, "allowPrivilegeEscalation": false})),
            &[
                "spec.containers[0].securityContext: Invalid value: {\"allowPrivilegeEscalation\":false,\"privileged\":true}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            ],
        ),
        (
            of(json!({"seccompProfile": {"type": "Localhost"}})),
            &[
                "spec.containers[0].securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
            ],
        ),
        (
            of(json!({"seccompProfile": {"type": "X"}})),
            &[
                "spec.containers[0].securityContext.seccompProfile.type: Unsupported value: \"X\": supported values: \"Localhost\", \"RuntimeDefault\", \"Unconfined\"",
            ],
        ),
        (
            of(json!({"appArmorProfile": {"type": "RuntimeDefault", "localhostProfile": "x"}})),
            &[
                "spec.containers[0].securityContext.appArmorProfile.localhostProfile: Invalid value: \"x\": can only be set when AppArmor type is Localhost",
            ],
        ),
        (
            of(json!({"procMount": "Unmasked"})),
            &[
                "spec.containers[0].securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`",
            ],
        ),
    ]);
}

#[test]
fn mounts() {
    check(&[(
        json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}),
        &["spec.containers[0].volumeMounts[0].name: Not found: \"v\""],
    )]);
    let with_volume = |mounts: Value| {
        with(
            &container(&json!({"volumeMounts": mounts})),
            &json!({"spec": {"volumes": [{"name": "v"}, {"name": "w"}]}}),
        )
    };
    check_create(
        &pod(),
        &[
            (
                with_volume(json!([{"name": "v", "mountPath": "/v"}, {"name": "w", "mountPath": "/v"}])),
                &["spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"/v\": must be unique"],
            ),
            (
                with_volume(json!([{"name": "v", "mountPath": ""}])),
                &["spec.containers[0].volumeMounts[0].mountPath: Required value"],
            ),
            (
                with_volume(json!([{"name": "v", "mountPath": "/v", "subPath": "../x"}])),
                &["spec.containers[0].volumeMounts.subPath: Invalid value: \"../x\": must not contain '..'"],
            ),
            (
                with_volume(json!([{"name": "v", "mountPath": "/v", "mountPropagation": "Bidirectional"}])),
                &[
                    "spec.containers[0].volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers",
                ],
            ),
            (
                with_volume(json!([{"name": "v", "mountPath": "/v", "recursiveReadOnly": "Enabled"}])),
                &[
                    "spec.containers[0].volumeMounts.recursiveReadOnly: Forbidden: may only be specified when readOnly is true",
                ],
            ),
        ],
    );
}

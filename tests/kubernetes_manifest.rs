//! The example manifest: every field is one that Kubernetes knows, the gateway starts by it, ends within its time, and may do
//! what it has to and no more.

mod common;

use common::{
    api_server::{ApiServer, ready},
    gateway::{ConfigFile, binary},
    until,
};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Container, Service, ServiceAccount},
    rbac::v1::{Role, RoleBinding},
};
use kube::config::Kubeconfig;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{
    process::{Command, Output},
    time::Duration,
};
use tower_balancer::{
    BackendPool, Discoverer,
    discover::{KubernetesConfig, KubernetesSource},
};

const MANIFEST: &str = include_str!("../examples/gateway/kubernetes.yaml");

/// The documents of the manifest. What reads YAML here reads kubeconfigs, in which an extension may be anything.
fn documents() -> Vec<Value> {
    let read = |document: &str| {
        let indented = document.lines().map(|line| format!("    {line}\n")).collect::<String>();
        let kubeconfig = format!("extensions:\n- name: document\n  extension:\n{indented}");
        Kubeconfig::from_yaml(&kubeconfig).unwrap().extensions.unwrap().remove(0).extension
    };
    MANIFEST.split("\n---\n").map(read).collect()
}

/// The document of this kind. A field that the kind does not have would be lost on the way, and is found out.
fn document<T: DeserializeOwned + Serialize>(kind: &str) -> T {
    let documents = documents();
    let [document] = documents.iter().filter(|document| document["kind"] == kind).collect::<Vec<_>>()[..] else {
        panic!("expected one {kind}");
    };
    let read: T = serde_json::from_value(document.clone()).unwrap();
    assert_eq!(&serde_json::to_value(&read).unwrap(), document);
    read
}

fn container() -> Container {
    document::<Deployment>("Deployment").spec.unwrap().template.spec.unwrap().containers.remove(0)
}

/// What the gateway says of the configuration in the manifest.
fn check() -> Output {
    let config: ConfigMap = document("ConfigMap");
    let file = ConfigFile::new(&config.data.unwrap()["gateway.toml"]);
    let container = container();
    assert_eq!(container.args.unwrap(), ["--config", "/etc/gateway/gateway.toml"]);
    assert_eq!(container.volume_mounts.unwrap()[0].mount_path, "/etc/gateway");
    let mut command = Command::new(binary());
    for variable in container.env.unwrap() {
        command.env(variable.name, "0123456789abcdef0123456789abcdef");
    }
    command.args(["--check", "--config", file.path()]).output().unwrap()
}

#[test]
fn the_gateway_takes_its_configuration_and_listens_where_it_is_asked() {
    let output = check();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8(output.stderr).unwrap());
    assert!(said.contains("kubernetes web.shop, port http, as the service account of this pod"), "{said}");

    let container = container();
    let ports = container.ports.unwrap();
    let number = |name: &str| ports.iter().find(|port| port.name.as_deref() == Some(name)).unwrap().container_port;
    for (name, key) in [("http", "listen"), ("admin", "admin")] {
        assert!(MANIFEST.contains(&format!("{key} = \"0.0.0.0:{}\"", number(name))), "{name}");
    }
    for (probe, path) in [(container.readiness_probe, "/readyz"), (container.liveness_probe, "/healthz")] {
        let asked = probe.unwrap().http_get.unwrap();
        assert_eq!(asked.path.as_deref(), Some(path));
        assert_eq!(serde_json::to_value(asked.port).unwrap(), "admin");
    }
}

#[test]
fn a_pod_that_ends_has_the_time_that_the_gateway_takes() {
    let output = String::from_utf8(check().stdout).unwrap();
    let grace = output.lines().find_map(|line| line.trim().strip_prefix("shutdown grace")).unwrap();
    let grace = humantime::parse_duration(grace.trim()).unwrap();
    let waits = container().lifecycle.unwrap().pre_stop.unwrap().sleep.unwrap().seconds;
    let pod = document::<Deployment>("Deployment").spec.unwrap().template.spec.unwrap();
    let time = Duration::from_secs(pod.termination_grace_period_seconds.unwrap().try_into().unwrap());
    assert!(time > grace + Duration::from_secs(waits.try_into().unwrap()), "{time:?}");
}

#[test]
fn what_refers_to_another_finds_it() {
    let account = document::<ServiceAccount>("ServiceAccount").metadata;
    let (role, binding): (Role, RoleBinding) = (document("Role"), document("RoleBinding"));
    let subject = &binding.subjects.unwrap()[0];
    assert_eq!((Some(&subject.name), &subject.namespace), (account.name.as_ref(), &account.namespace));
    assert_eq!(Some(binding.role_ref.name), role.metadata.name);

    let deployment = document::<Deployment>("Deployment").spec.unwrap();
    let labels = deployment.template.metadata.unwrap().labels.unwrap();
    assert_eq!(deployment.selector.match_labels.unwrap(), labels);
    assert_eq!(document::<Service>("Service").spec.unwrap().selector.unwrap(), labels);
    let pod = deployment.template.spec.unwrap();
    assert_eq!(pod.service_account_name, account.name);
    assert_eq!(pod.volumes.unwrap()[0].config_map.as_ref().unwrap().name, "gateway");
    assert!(documents().iter().all(|document| document["metadata"]["namespace"] == "shop"));
}

#[tokio::test]
async fn the_role_is_what_the_source_asks_for_and_no_more() {
    let mut rules = document::<Role>("Role").rules.unwrap();
    let rule = rules.pop().unwrap();
    assert!(rules.is_empty());
    assert_eq!(rule.api_groups.unwrap(), ["discovery.k8s.io"]);
    assert_eq!(rule.resources.unwrap(), ["endpointslices"]);

    let server = ApiServer::start().await;
    server.put("web-a", 80, [ready("10.0.0.1")]);
    let kubeconfig = server.kubeconfig();
    let source = KubernetesSource::new(KubernetesConfig::kubeconfig(kubeconfig.path()), "web.shop").unwrap().http();
    let pool = BackendPool::empty();
    let discoverer = Discoverer::new(&pool, source);
    tokio::spawn(discoverer.run());
    until(|| async { server.watches() == 1 }).await;
    assert_eq!(server.verbs(), rule.verbs);
}

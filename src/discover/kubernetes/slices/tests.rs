use super::*;
use serde_json::{Value, json};

fn found(slices: impl IntoIterator<Item = Value>, choice: &Choice) -> Found {
    let read = |(number, value)| (format!("s{number}"), serde_json::from_value(value).unwrap());
    Found::read(&slices.into_iter().enumerate().map(read).collect(), choice)
}

/// Those found, a drained one in brackets.
fn spelled(found: &Found) -> Vec<String> {
    let spelled = |(address, backend): (&SocketAddr, &Backend)| match backend.is_draining {
        true => format!("({address})"),
        false => address.to_string(),
    };
    found.backends.iter().map(spelled).collect()
}

fn slice(kind: &str, ports: Value, endpoints: Value) -> Value {
    json!({ "metadata": {}, "addressType": kind, "ports": ports, "endpoints": endpoints })
}

fn ipv4(endpoints: Value) -> Value {
    slice("IPv4", json!([{ "name": "http", "port": 80 }]), endpoints)
}

fn at(address: &str, conditions: Value) -> Value {
    json!({ "addresses": [address], "conditions": conditions })
}

#[test]
fn each_mix_of_conditions_is_what_kubernetes_says_it_is() {
    let not_ready =
        |serving: Value, terminating: Value| json!({ "ready": false, "serving": serving, "terminating": terminating });
    let endpoints = [
        json!({}),
        json!({ "ready": true }),
        json!({ "ready": null, "serving": null }),
        // A service that publishes those that are not ready says that they are.
        json!({ "ready": true, "serving": false, "terminating": true }),
        not_ready(true.into(), true.into()),
        not_ready(true.into(), false.into()),
        not_ready(true.into(), Value::Null),
        not_ready(false.into(), true.into()),
        not_ready(Value::Null, true.into()),
        json!({ "ready": false }),
    ];
    let endpoints = endpoints.into_iter().enumerate();
    let endpoints = endpoints.map(|(number, conditions)| at(&format!("10.0.0.{number}"), conditions)).collect();
    let found = found([ipv4(endpoints)], &Choice::default());
    assert_eq!(spelled(&found), ["10.0.0.0:80", "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "(10.0.0.4:80)"]);
    assert!(found.skipped.is_empty());
}

#[test]
fn those_that_are_about_to_end_get_requests_where_nobody_else_is_left() {
    let ends = json!({ "ready": false, "serving": true, "terminating": true });
    let gone = json!({ "ready": false, "serving": false, "terminating": true });
    let one = [ipv4(json!([at("10.0.0.1", ends), at("10.0.0.2", gone)]))];
    assert_eq!(spelled(&found(one.clone(), &Choice::default())), ["10.0.0.1:80"]);
    let another = ipv4(json!([at("10.0.0.3", json!({ "ready": true }))]));
    let both = one.into_iter().chain([another]);
    assert_eq!(spelled(&found(both, &Choice::default())), ["(10.0.0.1:80)", "10.0.0.3:80"]);
}

#[test]
fn an_address_in_two_slices_is_one_backend_and_ready_if_one_of_them_says_so() {
    let (ready, ends) = (json!({}), json!({ "ready": false, "serving": true, "terminating": true }));
    let zoned =
        |conditions: &Value, zone: &str| json!({ "addresses": ["10.0.0.1"], "conditions": conditions, "zone": zone });
    let other = ipv4(json!([at("10.0.0.2", json!({}))]));
    for slices in [[zoned(&ready, "a"), zoned(&ends, "b")], [zoned(&ends, "b"), zoned(&ready, "a")]] {
        let slices = slices.map(|endpoint| ipv4(json!([endpoint]))).into_iter().chain([other.clone()]);
        let found = found(slices, &Choice::default());
        assert_eq!(spelled(&found), ["10.0.0.1:80", "10.0.0.2:80"]);
        assert_eq!(found.backends.values().next().unwrap().zone.as_deref(), Some("a"));
    }
}

#[test]
fn a_pod_with_an_address_of_each_family_is_one_backend() {
    let of = |address: &str, kind: &str, uid: &str| json!({ "addresses": [address], "targetRef": { "kind": kind, "uid": uid } });
    let ports = json!([{ "port": 80 }]);
    let six = slice(
        "IPv6",
        ports.clone(),
        json!([of("fd00::1", "Pod", "1"), of("fd00::2", "Pod", "2"), of("fd00::3", "Node", "3")]),
    );
    let four = slice(
        "IPv4",
        ports,
        json!([of("10.0.0.1", "Pod", "1"), of("10.0.0.3", "Node", "3"), of("10.0.0.4", "Node", "3")]),
    );
    let by = |families| spelled(&found([six.clone(), four.clone()], &Choice { families, ..Choice::default() }));
    let four_only = ["10.0.0.1:80", "10.0.0.3:80", "10.0.0.4:80"];
    assert_eq!(by(Families::Ipv4), four_only);
    assert_eq!(by(Families::Ipv6), ["[fd00::1]:80", "[fd00::2]:80", "[fd00::3]:80"]);
    assert_eq!(by(Families::Both), [&four_only[..], &["[fd00::2]:80", "[fd00::3]:80"]].concat());
}

#[test]
fn a_port_is_found_by_its_name_by_its_number_or_alone() {
    let by = |port: Option<&str>, ports: Value| {
        let choice = Choice { port: port.map(str::to_owned), ..Choice::default() };
        let found = found([slice("IPv4", ports, json!([at("10.0.0.1", json!({}))]))], &choice);
        let port = found.backends.keys().next().map(SocketAddr::port);
        port.ok_or_else(|| found.skipped.concat())
    };
    let two = || json!([{ "name": "http", "port": 8080, "protocol": "TCP" }, { "name": "admin", "port": 9090 }]);
    assert_eq!(by(Some("admin"), two()), Ok(9090));
    assert_eq!(by(Some("8080"), two()), Ok(8080));
    assert_eq!(by(None, json!([{ "name": "", "port": 80 }, { "name": "dns", "port": 53, "protocol": "UDP" }])), Ok(80));
    // A headless service need not have ports, and a port need not have a number.
    assert_eq!(by(Some("8080"), Value::Null), Ok(8080));
    assert_eq!(by(Some("8080"), json!([{ "name": "any" }])), Ok(8080));

    let there = "there are http (8080), admin (9090)";
    assert_eq!(by(Some("web"), two()), Err(format!("s0: it has no TCP port web: {there}")));
    assert_eq!(by(Some("80"), two()), Err(format!("s0: it has no TCP port 80: {there}")));
    assert_eq!(by(None, two()), Err(format!("s0: which port is meant is not said: {there}")));
    assert_eq!(by(Some("http"), Value::Null), Err("s0: it has no TCP port http: there are none".to_owned()));
    let udp = json!([{ "name": "http", "port": 80, "protocol": "UDP" }]);
    assert_eq!(by(Some("http"), udp), Err("s0: it has no TCP port http: there are none".to_owned()));
    for number in [0x10000, -1] {
        assert!(by(Some("http"), json!([{ "name": "http", "port": number }])).is_err());
    }
}

#[test]
fn what_is_no_address_is_left_out_and_named_and_the_rest_is_there() {
    let found = found(
        [
            ipv4(
                json!([at("10.0.0.1", json!({})), at("web-1", json!({})), at("fd00::1", json!({})), { "addresses": [] }]),
            ),
            slice("FQDN", json!([{ "name": "http", "port": 80 }]), json!([at("web.example", json!({}))])),
            slice(
                "IPv4",
                json!([{ "name": "admin", "port": 80 }, { "name": "more", "port": 81 }]),
                json!([at("10.0.0.2", json!({}))]),
            ),
            // One without endpoints, as a service that has none yet has it, need not have ports.
            slice("IPv4", Value::Null, json!([])),
        ],
        &Choice { port: Some("http".to_owned()), ..Choice::default() },
    );
    assert_eq!(spelled(&found), ["10.0.0.1:80"]);
    let expected = [
        "s0: \"web-1\" is no IPv4 address",
        "s0: \"fd00::1\" is no IPv4 address",
        "s0: \"\" is no IPv4 address",
        "s1: its addresses are of type FQDN: expected IPv4 or IPv6",
        "s2: it has no TCP port http: there are admin (80), more (81)",
    ];
    assert_eq!(found.skipped, expected);
}

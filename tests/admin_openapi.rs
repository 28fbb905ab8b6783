//! The description of the admin server and the server agree: every route, every field, both ways.

mod common;

use common::{
    Server,
    admin::{Answer, Operator},
    gateway::{ConfigFile, Gateway, free_port},
    get, says, until,
};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// What was seen of the description: a schema and a property of it.
type Seen = BTreeSet<(String, String)>;

struct Description(Value);

impl Description {
    fn schema(&self, name: &str) -> &Value {
        let schema = &self.0["components"]["schemas"][name];
        assert!(schema.is_object(), "there is no schema {name}");
        schema
    }

    fn schemas(&self) -> &Map<String, Value> {
        self.0["components"]["schemas"].as_object().unwrap()
    }

    /// Holds `value` against `schema`, as far as the description uses JSON Schema; whatever else it uses is an error.
    fn check(&self, schema: &Value, value: &Value, place: &str, seen: &mut Seen) {
        if let Some(name) = schema["$ref"].as_str() {
            let name = name.strip_prefix("#/components/schemas/").unwrap();
            let schema = self.schema(name);
            if let Some(fields) = value.as_object() {
                seen.extend(fields.keys().map(|field| (name.to_owned(), field.clone())));
            }
            return self.check(schema, value, &format!("{place} ({name})"), seen);
        }
        if let Some(any) = schema["oneOf"].as_array() {
            let of = any.iter().find(|schema| (schema["type"] == "null") == value.is_null()).unwrap();
            return self.check(of, value, place, seen);
        }
        let types = match &schema["type"] {
            Value::Array(types) => types.clone(),
            one => vec![one.clone()],
        };
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if types.contains(&json!("integer")) && number.is_u64() => "integer",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        assert!(types.contains(&json!(kind)), "{place}: {value} is none of {types:?}");
        if let (Some(words), false) = (schema["enum"].as_array(), value.is_null()) {
            assert!(words.contains(value), "{place}: {value} is none of {words:?}");
        }
        if schema["format"] == "date-time" && !value.is_null() {
            let text = value.as_str().unwrap();
            assert!(text.len() == 24 && text.ends_with('Z') && text.as_bytes()[10] == b'T', "{place}: {text}");
        }
        if let Some(items) = value.as_array() {
            items.iter().for_each(|item| self.check(&schema["items"], item, &format!("{place}[]"), seen));
        }
        if let Some(fields) = value.as_object() {
            assert_eq!(schema["additionalProperties"], false, "{place}");
            for (name, value) in fields {
                let property = &schema["properties"][name];
                assert!(property.is_object(), "{place}: the description has no {name}");
                self.check(property, value, &format!("{place}.{name}"), seen);
            }
            for required in schema["required"].as_array().unwrap() {
                assert!(fields.contains_key(required.as_str().unwrap()), "{place}: {required} is missing");
            }
        }
    }

    /// Holds an answer against what is said of it.
    fn check_answer(&self, method: &str, path: &str, answer: &Answer, seen: &mut Seen) {
        let said = &self.0["paths"][path][method]["responses"][answer.status.to_string()];
        assert!(said.is_object(), "{method} {path}: {} is not described", answer.status);
        if let Some(content) = said["content"]["application/json"]["schema"].as_object() {
            self.check(&Value::Object(content.clone()), &answer.json(), &format!("{method} {path}"), seen);
        }
    }
}

/// The routes by the source: path and methods.
fn routes() -> BTreeSet<(String, String)> {
    let sources = ["admin", "metrics"].map(|folder| format!("examples/gateway/{folder}/mod.rs"));
    let source = sources.map(|source| std::fs::read_to_string(source).unwrap()).concat();
    let routes = source.split(".route(\"").skip(1).map(|rest| rest.split_once("\", ").unwrap());
    let route = |(path, rest): (&str, &str)| {
        let method = rest.split('(').next().unwrap();
        assert!(["get", "post", "put", "delete"].contains(&method), "{path}: {method}");
        (path.to_owned(), method.to_owned())
    };
    routes.map(route).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_and_every_field_is_described_and_there() {
    let servers = [Server::http(says("one")).await, Server::http(says("two")).await];
    let [one, two] = servers.each_ref().map(Server::url);
    let dead = format!("http://127.0.0.1:{}", free_port());
    let text = |more: &str| {
        format!(
            "[server]\nzone = \"a\"\n[pools.web]\nstrategy = \"least_latency\"\nhealth = {{ interval = \"1h\", fast_interval = \"1h\" }}\n\
             backends = [{{ url = {one:?}, zone = \"a\" }}, {{ url = {two:?}, zone = \"b\", priority = 1 }}]\n{more}"
        )
    };
    let file = ConfigFile::new(&text(""));
    let operator = Operator::new();
    let gateway = Gateway::start(&["--admin", &operator.address, "--config", file.path()]);
    (0..2).for_each(|_| _ = gateway.line("HEALTH: "));
    let described = operator.get("/openapi.json").await;
    assert_eq!(described.headers["content-type"], "application/json");
    let description = Description(described.json());
    assert_eq!(description.0["openapi"], "3.1.0");
    let mut events = operator.events().await;

    // Every route, both ways.
    let paths = description.0["paths"].as_object().unwrap();
    let methods = |path: &Value| path.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let said: BTreeSet<_> =
        paths.iter().flat_map(|(path, said)| methods(said).into_iter().map(|method| (path.clone(), method))).collect();
    assert_eq!(said, routes(), "the routes");
    for (path, _) in &said {
        for method in ["get", "post", "put", "delete", "patch"] {
            let is_said = said.contains(&(path.clone(), method.to_owned()));
            if path == "/events" && is_said {
                continue;
            }
            // A pool that is not there: nothing is changed.
            let asked = path.replace("{pool}", "nowhere").replace("{id}", "http%3A%2F%2Fa%3A1");
            let answer = operator.ask(&method.to_uppercase(), &asked, "").await;
            assert_eq!(answer.status != 405, is_said, "{method} {path}: {answer:?}");
        }
    }

    // Every parameter that is described is taken.
    let mut seen = Seen::new();
    let ask = async |method: &str, path: &str, id: &str, query: &str, body: &str, seen: &mut Seen| {
        let place = path.replace("{pool}", "web").replace("{id}", &id.replace(':', "%3A").replace('/', "%2F"));
        let answer = operator.ask(&method.to_uppercase(), &format!("{place}{query}"), body).await;
        description.check_answer(method, path, &answer, seen);
        let parameters = description.0["paths"][path][method]["parameters"].as_array().cloned().unwrap_or_default();
        let asked: BTreeSet<_> =
            query.trim_start_matches('?').split('&').filter_map(|pair| Some(pair.split_once('=')?.0)).collect();
        let said: BTreeSet<_> =
            parameters.iter().filter(|it| it["in"] == "query").map(|it| it["name"].as_str().unwrap()).collect();
        if answer.status < 300 {
            assert_eq!(asked, said, "{method} {path}");
        }
        answer
    };
    let backends = "/pools/{pool}/backends";
    let of = |what: &str| format!("{backends}/{{id}}{what}");
    get(&gateway.url).await;
    let new = json!({"url": dead, "weight": 2, "zone": "a", "priority": 1});
    assert_eq!(ask("post", backends, "", "", &new.to_string(), &mut seen).await.status, 201);
    until(|| async { operator.backend("web", &dead).await["state"] == "unhealthy" }).await;
    assert_eq!(ask("put", &of("/weight"), &one, "", "{\"weight\": 2}", &mut seen).await.status, 200);
    let drained = ask("post", &of("/drain"), &two, "?deadline=1h&force=true", "", &mut seen).await;
    assert_eq!(drained.status, 200);
    assert_eq!(ask("get", "/pools/{pool}/explain", "", "?key=ann", "", &mut seen).await.status, 200);
    ask("get", "/pools", "", "", "", &mut seen).await;
    assert_eq!(ask("post", &of("/disable"), &two, "?force=true", "", &mut seen).await.status, 200);
    assert_eq!(ask("post", &of("/enable"), &two, "", "", &mut seen).await.status, 200);
    assert_eq!(ask("delete", &of(""), &dead, "?deadline=1h&force=true", "", &mut seen).await.status, 202);
    for (path, status) in [("/", 200), ("/healthz", 200), ("/readyz", 200), ("/openapi.json", 200), ("/metrics", 200)] {
        assert_eq!(ask("get", path, "", "", "", &mut seen).await.status, status);
    }
    // What is wrong, by the statuses that are described.
    for (method, path, id, query, body, status) in [
        ("post", backends, "", "", "{", 400),
        ("post", backends, "", "", "{}", 422),
        ("post", backends, "", "", &*json!({ "url": one }).to_string(), 409),
        ("post", backends, "", "", &" ".repeat(20_000), 413),
        ("put", &of("/weight"), &*one, "", "", 415),
        ("put", &of("/weight"), "http://a:1", "", "{\"weight\": 1}", 404),
        ("post", &of("/drain"), &*one, "?deadline=x", "", 422),
        ("get", "/pools/{pool}/explain", "", "?x=y", "", 422),
    ] {
        assert_eq!(ask(method, path, id, query, body, &mut seen).await.status, status, "{method} {path} {body:.20}");
    }

    // Every event that can be made to happen here.
    file.write(&text("retry = { attempts = 1 }"));
    gateway.line("INFO: Configuration reloaded");
    file.write("nonsense");
    gateway.line("ERROR: Configuration not reloaded");
    let mut kinds = BTreeSet::new();
    let event = json!({ "$ref": "#/components/schemas/Event" });
    loop {
        let told = events.next().await;
        description.check(&event, &told, "event", &mut seen);
        kinds.insert(told["kind"].as_str().unwrap().to_owned());
        if told["kind"] == "reload_refused" {
            break;
        }
    }
    let mut expected =
        ["added", "change", "drained", "health", "reload", "reload_refused", "removed", "weight"].map(str::to_owned);
    expected.sort();
    assert!(expected.iter().all(|kind| kinds.contains(kind)), "{kinds:?}");

    // Every field that is described has been seen; what is only sent has been taken.
    let described: Seen = description
        .schemas()
        .iter()
        .filter(|(name, _)| !name.starts_with("New"))
        // There are none in every build: the tests of these see to them.
        .filter(|(name, _)| *name != "Discover" && *name != "Fleet")
        .flat_map(|(name, schema)| {
            schema["properties"].as_object().unwrap().keys().map(move |field| (name.clone(), field.clone()))
        })
        .collect();
    let missing: Vec<_> = described.difference(&seen).filter(|(_, field)| field != "missed").collect();
    assert!(missing.is_empty(), "described and never seen: {missing:?}");
    let fields = |name: &str| {
        description.schema(name)["properties"].as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>()
    };
    assert_eq!(fields("NewBackend"), new.as_object().unwrap().keys().cloned().collect());
    assert_eq!(fields("NewWeight"), ["weight".to_owned()].into());
    for schema in ["NewBackend", "NewWeight"] {
        // The binary names the fields that it knows.
        let (method, path, id) =
            if schema == "NewWeight" { ("put", of("/weight"), &*one) } else { ("post", backends.to_owned(), "") };
        let said = ask(method, &path, id, "", "{\"zzz\": 1}", &mut seen).await.error();
        let known: BTreeSet<_> = said.split('`').skip(3).step_by(2).map(str::to_owned).collect();
        assert_eq!(known, fields(schema), "{said}");
    }
}

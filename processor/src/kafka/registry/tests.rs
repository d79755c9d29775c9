use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Router,
    extract::{Path, State},
    http::HeaderMap,
    routing::{get, post},
};
use serde_json::json;
use tokio::net::TcpListener;

use super::*;

type Answer = (StatusCode, String);

/// A registry that answers as one status says; calls are counted.
#[derive(Clone)]
struct Peer {
    status: StatusCode,
    calls: Arc<AtomicUsize>,
}

async fn schema_by_id(State(peer): State<Peer>, Path(id): Path<u32>) -> Answer {
    peer.calls.fetch_add(1, Ordering::Relaxed);
    match id {
        1 => (StatusCode::OK, json!({ "schema": "{}", "schemaType": "JSON" }).to_string()),
        2 => (StatusCode::OK, json!({ "schema": "\"string\"" }).to_string()),
        3 => (StatusCode::NOT_FOUND, json!({ "error_code": 40403, "message": "Schema not found" }).to_string()),
        5 => (StatusCode::OK, json!({ "schema": "\"else.Where\"" }).to_string()),
        6 => (StatusCode::OK, json!({ "schema": "", "schemaType": "PROTOBUF" }).to_string()),
        7 => (StatusCode::BAD_REQUEST, json!({ "error_code": 400, "message": "no id" }).to_string()),
        8 => (StatusCode::UNPROCESSABLE_ENTITY, json!({ "error_code": 42201, "message": "no id" }).to_string()),
        9 => (StatusCode::NOT_FOUND, "<html>nginx</html>".to_owned()),
        10 => (StatusCode::NOT_FOUND, json!({ "title": "no such route" }).to_string()),
        11 => (StatusCode::BAD_REQUEST, String::new()),
        12 => (StatusCode::UNAUTHORIZED, json!({ "error_code": 40101, "message": "Unauthorized" }).to_string()),
        13 => (StatusCode::FORBIDDEN, json!({ "error_code": 40301, "message": "Forbidden" }).to_string()),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, json!({ "error_code": 50001, "message": "store" }).to_string()),
    }
}

async fn lookup(State(peer): State<Peer>, headers: HeaderMap) -> Answer {
    assert_eq!(headers["authorization"], "Basic bWU6dGlnZXI=");
    let status = peer.status;
    (status, json!({ "error_code": status.as_u16(), "message": "no", "id": 9 }).to_string())
}

/// Holds a subject whose schema is another one.
async fn latest() -> Answer {
    (StatusCode::OK, json!({ "id": 8, "schema": "\"string\"" }).to_string())
}

async fn incompatible() -> Answer {
    (
        StatusCode::CONFLICT,
        json!({ "error_code": 409, "message": "Schema being registered is incompatible" }).to_string(),
    )
}

async fn registry(status: StatusCode) -> (Registry, Arc<AtomicUsize>) {
    let peer = Peer { status, calls: Arc::default() };
    let calls = Arc::clone(&peer.calls);
    let app = Router::new()
        .route("/path/schemas/ids/{id}", get(schema_by_id))
        .route("/path/subjects/{subject}", post(lookup))
        .route("/path/subjects/{subject}/versions/latest", get(latest))
        .route("/path/subjects/{subject}/versions", post(incompatible))
        .with_state(peer);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://me:tiger@{}/path/", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, app).await });
    (connect(&url), calls)
}

fn connect(url: &str) -> Registry {
    let url = crate::config::RegistryUrl::parse(url).unwrap();
    Registry::connect(&RegistrySettings { url, password: None, certificates: None }).unwrap()
}

#[tokio::test]
async fn an_id_is_asked_for_once() {
    let (registry, calls) = registry(StatusCode::OK).await;
    for _ in 0..3 {
        assert!(matches!(registry.schema_type(1).await, Ok(SchemaKind::Json)));
        assert!(matches!(registry.schema_type(2).await, Ok(SchemaKind::Avro(schema)) if !schema.is_record()));
        assert!(matches!(registry.schema_type(5).await, Ok(SchemaKind::Other)));
        assert!(matches!(registry.schema_type(6).await, Ok(SchemaKind::Other)));
        for unknown in [3, 7, 8] {
            assert!(matches!(registry.schema_type(unknown).await, Ok(SchemaKind::Unknown)), "{unknown}");
        }
    }
    assert_eq!(calls.load(Ordering::Relaxed), 7);
}

#[tokio::test]
async fn an_id_that_no_registry_gives_is_not_asked_for() {
    let (registry, calls) = registry(StatusCode::OK).await;
    for id in [1 << 31, u32::MAX] {
        assert!(matches!(registry.schema_type(id).await, Ok(SchemaKind::Unknown)), "{id}");
    }
    assert_eq!(calls.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn an_answer_that_is_not_the_registrys_own_does_not_say_that_an_id_is_unknown() {
    let (registry, calls) = registry(StatusCode::OK).await;
    for id in [9, 10, 11, 12, 13] {
        assert!(matches!(registry.schema_type(id).await, Err(RegistryError::Unreachable(_))), "{id}");
        assert!(registry.remembered(id).is_none(), "{id}");
    }
    assert_eq!(calls.load(Ordering::Relaxed), 5);
}

#[tokio::test]
async fn what_is_remembered_is_bounded() {
    let (registry, _) = registry(StatusCode::OK).await;
    let schema = || SchemaKind::Avro(Arc::new(WriterSchema::parse("\"string\"").unwrap()));
    for id in 0..6 {
        registry.remember(id, schema(), SCHEMA_BYTES_MAX / 5);
    }
    assert!((0..5).all(|id| registry.remembered(id).is_none()) && registry.remembered(5).is_some());
    registry.remember(7, schema(), 2 * SCHEMA_BYTES_MAX);
    assert!(registry.remembered(5).is_none() && registry.remembered(7).is_some());
}

#[tokio::test]
async fn that_an_id_is_unknown_is_soon_forgotten() {
    let (registry, _) = registry(StatusCode::OK).await;
    registry.remember(7, SchemaKind::Unknown, 0);
    assert!(matches!(registry.remembered(7), Some(SchemaKind::Unknown)));
    let long_ago = Instant::now().checked_sub(2 * UNKNOWN_FOR).unwrap();
    registry.kinds.lock().unwrap().by_id.insert(7, (SchemaKind::Unknown, long_ago));
    registry.kinds.lock().unwrap().by_id.insert(8, (SchemaKind::Json, long_ago));
    assert!(registry.remembered(7).is_none());
    assert!(matches!(registry.remembered(8), Some(SchemaKind::Json)));
}

#[tokio::test]
async fn a_registry_that_fails_has_not_said_that_an_id_is_unknown() {
    let (registry, calls) = registry(StatusCode::OK).await;
    for _ in 0..2 {
        let error = registry.schema_type(4).await.unwrap_err();
        assert_eq!(error, RegistryError::Unreachable("store (50001)".to_owned()));
    }
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    let gone = connect("http://127.0.0.1:1");
    assert!(matches!(gone.schema_type(1).await, Err(RegistryError::Unreachable(_))));
}

#[tokio::test]
async fn an_answer_is_waited_for_or_needs_a_person() {
    let (found, _) = registry(StatusCode::OK).await;
    assert_eq!(found.audit_schema_id("dos.audit").await, Ok(9));
    for status in [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS] {
        let (busy, _) = registry(status).await;
        assert!(matches!(busy.audit_schema_id("dos.audit").await, Err(RegistryError::Unreachable(_))), "{status}");
    }
    for status in [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::UNPROCESSABLE_ENTITY] {
        let (refusing, _) = registry(status).await;
        assert!(matches!(refusing.audit_schema_id("dos.audit").await, Err(RegistryError::Refused(_))), "{status}");
    }
}

#[tokio::test]
async fn a_schema_that_is_not_compatible_is_refused() {
    let (registry, _) = registry(StatusCode::NOT_FOUND).await;
    let error = registry.audit_schema_id("dos.audit").await.unwrap_err();
    let told = error.to_string();
    assert!(told.contains("subject dos.audit-value") && told.contains("incompatible"), "{told}");
    assert!(matches!(Failure::from(error), Failure::Setup(_)));
}

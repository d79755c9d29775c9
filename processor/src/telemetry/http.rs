//! `/metrics`, `/livez` and `/readyz`.

use std::{future::Future, io, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::{net::TcpListener, sync::oneshot, time};

use super::{metrics::Metrics, readiness::Readiness};

/// How long a client may keep a connection after the end was asked for.
const GRACE: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
struct Shared {
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
}

/// Serves until `shutdown` is done, and no longer than a second after it.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (leave, leaving) = oneshot::channel::<()>();
    let app = router(metrics, readiness);
    let server = axum::serve(listener, app).with_graceful_shutdown(async move {
        shutdown.await;
        drop(leave);
    });
    let overdue = async {
        let _ = leaving.await;
        time::sleep(GRACE).await;
    };
    tokio::select! {
        result = server => result,
        () = overdue => Ok(()),
    }
}

fn router(metrics: Arc<Metrics>, readiness: Arc<Readiness>) -> Router {
    Router::new()
        .route("/metrics", get(show_metrics))
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(show_readiness))
        .with_state(Shared { metrics, readiness })
}

async fn show_metrics(State(shared): State<Shared>) -> impl IntoResponse {
    match shared.metrics.render() {
        Ok(text) => (StatusCode::OK, [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text),
        Err(error) => {
            let text = format!("{error}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text)
        }
    }
}

async fn show_readiness(State(shared): State<Shared>) -> impl IntoResponse {
    let status = if shared.readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, shared.readiness.to_string())
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    use super::*;

    async fn get(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: dosi\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn answers_and_leaves_although_a_client_stays() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (metrics, readiness) = (Arc::new(Metrics::new()), Arc::new(Readiness::starting()));
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            let _ = stopped.await;
        };
        let server = tokio::spawn(serve(listener, metrics, Arc::clone(&readiness), shutdown));

        let answer = get(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("start: starting"), "{answer}");
        readiness.clear("start");
        let answer = get(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("ready"), "{answer}");
        assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"));
        assert!(get(address, "/metrics").await.contains("dosi_build_info"));

        let mut staying = TcpStream::connect(address).await.unwrap();
        staying.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
        stop.send(()).unwrap();
        time::timeout(Duration::from_secs(5), server).await.unwrap().unwrap().unwrap();
    }
}

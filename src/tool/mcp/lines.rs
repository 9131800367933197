//! The messages of a server over pipes: one in each line.

use std::collections::VecDeque;
use std::io;

use futures_util::future::BoxFuture;
use rmcp::model::{
    ClientJsonRpcMessage, ClientNotification, ErrorData, JsonRpcMessage, RequestId, ServerJsonRpcMessage,
};
use rmcp::transport::Transport;
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::{RoleClient, service};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, BufReader, Empty};

use super::messages::{Incoming, read_message};
use super::request_ids::is_same_id;
use super::text_worker::TextWorker;

/// Reads lines with the messages of a server, and writes messages for it.
pub(super) struct LineTransport<R, W: AsyncWrite> {
    reader: BufReader<R>,
    /// The part of the next line that has arrived.
    line: Vec<u8>,
    writer: AsyncRwTransport<RoleClient, Empty, W>,
    /// Reads lines, which may be large.
    worker: TextWorker,
    /// The content of the last line, until it has been read.
    reading: Option<BoxFuture<'static, Incoming>>,
    /// The requests that the server has not answered.
    open: Vec<RequestId>,
    /// Messages that have been read.
    waiting: VecDeque<ServerJsonRpcMessage>,
    /// The answer to a request of the server that can't be read, until it has been sent.
    refusal: Option<BoxFuture<'static, io::Result<()>>>,
}

impl<R, W> LineTransport<R, W>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    /// A transport that reads from `reader`, which limits the length of a line, and writes to `writer`.
    pub(super) fn new(reader: R, writer: W, worker: TextWorker) -> Self {
        Self {
            reader: BufReader::new(reader),
            line: Vec::new(),
            writer: AsyncRwTransport::new_client(tokio::io::empty(), writer),
            worker,
            reading: None,
            open: Vec::new(),
            waiting: VecDeque::new(),
            refusal: None,
        }
    }

    /// Begins to read the line that has arrived.
    fn read_line(&mut self) {
        let (line, open, worker) = (std::mem::take(&mut self.line), self.open.clone(), self.worker.clone());
        self.reading = Some(Box::pin(async move { worker.run(line.len(), move || read_message(&line, &open)).await }));
    }

    /// Takes the content of a line.
    fn accept(&mut self, incoming: Incoming) {
        for message in incoming.messages {
            let answered = match &message {
                JsonRpcMessage::Response(response) => Some(&response.id),
                JsonRpcMessage::Error(error) => error.id.as_ref(),
                JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => None,
            };
            if let Some(id) = answered {
                self.open.retain(|open| !is_same_id(open, id));
            }
            self.waiting.push_back(message);
        }
        if let Some(id) = incoming.wrong_request {
            let error = ErrorData::invalid_request("orch can't read this request", None);
            self.refusal = Some(Box::pin(self.writer.send(ClientJsonRpcMessage::error(error, Some(id)))));
        }
    }
}

impl<R, W> Transport<RoleClient> for LineTransport<R, W>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    type Error = io::Error;

    fn send(
        &mut self,
        item: service::TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        match &item {
            ClientJsonRpcMessage::Request(message) => self.open.push(message.id.clone()),
            ClientJsonRpcMessage::Notification(message) => {
                // The server need not answer a request that orch has cancelled.
                if let ClientNotification::CancelledNotification(cancelled) = &message.notification
                    && let Some(id) = &cancelled.params.request_id
                {
                    self.open.retain(|open| open != id);
                }
            }
            ClientJsonRpcMessage::Response(_) | ClientJsonRpcMessage::Error(_) => {}
        }
        self.writer.send(item)
    }

    /// May be dropped at any time: what has arrived stays in `line` or `reading`.
    async fn receive(&mut self) -> Option<service::RxJsonRpcMessage<RoleClient>> {
        loop {
            if let Some(sending) = &mut self.refusal {
                // If the server reads no input, the next request fails.
                drop(sending.await);
                self.refusal = None;
            }
            if let Some(reading) = &mut self.reading {
                let incoming = reading.await;
                self.reading = None;
                self.accept(incoming);
                continue;
            }
            if let Some(message) = self.waiting.pop_front() {
                return Some(message);
            }
            let read = self.reader.read_until(b'\n', &mut self.line).await;
            // A part of a line at the end of the output is no message.
            if read.is_err() || !self.line.ends_with(b"\n") {
                return None;
            }
            self.read_line();
        }
    }

    fn close(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        // A refusal that the server does not read would keep the pipe locked.
        self.refusal = None;
        self.writer.close()
    }
}

#[cfg(test)]
mod tests {
    use rmcp::model::{ClientRequest, ListToolsRequest, PaginatedRequestParams};
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    /// A transport with the request 7, and the ends of its pipes on the side of the server.
    async fn site() -> (LineTransport<DuplexStream, DuplexStream>, DuplexStream, DuplexStream) {
        let (server_output, reader) = duplex(1 << 20);
        let (writer, server_input) = duplex(1 << 20);
        let mut transport = LineTransport::new(reader, writer, TextWorker::default());
        let request = ListToolsRequest::with_param(PaginatedRequestParams::default());
        let request = ClientRequest::ListToolsRequest(request);
        transport.send(ClientJsonRpcMessage::request(request, RequestId::Number(7))).await.unwrap();
        (transport, server_output, server_input)
    }

    async fn receive(transport: &mut LineTransport<DuplexStream, DuplexStream>) -> Value {
        serde_json::to_value(transport.receive().await.unwrap()).unwrap()
    }

    #[tokio::test]
    async fn each_line_is_a_message_and_other_lines_are_ignored() {
        let (mut transport, mut server, _input) = site().await;
        let answer = json!({ "jsonrpc": "2.0", "id": 7, "result": { "a": 1 } });
        server.write_all(format!("noise\n\n{answer}\r\n").as_bytes()).await.unwrap();
        assert_eq!(receive(&mut transport).await, answer);
        // The request has its answer, so another one is dropped if it can't be read.
        server.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":NaN}\n{\"jsonrpc\":").await.unwrap();
        drop(server);
        assert!(transport.receive().await.is_none(), "the last line is cut off");
    }

    #[tokio::test]
    async fn an_answer_that_cannot_be_read_is_an_error_at_once() {
        let (mut transport, mut server, _input) = site().await;
        server.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"a\":NaN}}\n").await.unwrap();
        let answer = receive(&mut transport).await;
        assert_eq!(answer["id"], 7);
        assert!(answer["error"]["message"].as_str().unwrap().contains("not valid JSON"), "{answer}");
    }

    #[tokio::test]
    async fn a_request_of_the_server_that_cannot_be_read_is_refused() {
        let (mut transport, mut server, mut input) = site().await;
        let lines = "{\"jsonrpc\":\"2.0\",\"id\":\"q\",\"method\":\"ping\",\"params\":NaN}\n\
                     {\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{}}\n";
        server.write_all(lines.as_bytes()).await.unwrap();
        assert_eq!(receive(&mut transport).await["id"], 7);
        transport.close().await.unwrap();
        drop(transport);
        let mut sent = String::new();
        input.read_to_string(&mut sent).await.unwrap();
        let refused: Value = serde_json::from_str(sent.lines().nth(1).unwrap()).unwrap();
        assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!("q"), &json!(-32600)), "{sent}");
    }
}

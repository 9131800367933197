// Makes a server of Node listen on the loopback only, and end when its standard input is closed.
const net = require("node:net");

const { TCP, constants } = process.binding("tcp_wrap");

const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (where, ...others) {
  const callback = others.find((other) => typeof other === "function");
  // With a host, Node binds the port later. Some servers ask for their address at once.
  const handle = new TCP(constants.SERVER);
  const port = where !== null && typeof where === "object" ? where.port : where;
  const failed = handle.bind("127.0.0.1", Number(port) || 0);
  if (failed) throw new Error(`port ${port} can't be used: ${failed}`);
  return listen.call(this, handle, callback);
};
process.stdin.on("end", () => process.exit(0)).resume();

// Makes a server of Node listen on the loopback only, and end when its standard input is closed.
const net = require("node:net");

const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (port, ...others) {
  const callback = others.find((other) => typeof other === "function");
  return listen.call(this, { port: Number(port), host: "127.0.0.1" }, callback);
};
process.stdin.on("end", () => process.exit(0)).resume();

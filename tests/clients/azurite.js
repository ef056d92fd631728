// Azure's blob store for the tests: azurite, in this process, behind latency and faults.
//
// Arguments: milliseconds to wait before each answer; of 1,000 requests, how many to refuse and how
// many to do and then answer with 500; and how it is special: `unconditional` forgets the
// conditions of writes, which is the negative control, and `old` tells a time years ago until a
// line comes in, so that what is written first is old. Prints its address; ends when its standard
// input closes.
const [delay, refused, lost] = process.argv.slice(2, 5).map(Number);
const special = process.argv.slice(5);

// In September 2020: older than anything that is kept for its age.
const LONG_AGO = 1_600_000_000_000;
let behind = special.includes("old") ? Date.now() - LONG_AGO : 0;
const RealDate = Date;
globalThis.Date = class extends RealDate {
  constructor(...args) {
    super(...(args.length ? args : [RealDate.now() - behind]));
  }
  static now() {
    return RealDate.now() - behind;
  }
};
process.stdin.on("data", () => (behind = 0));
process.stdin.on("end", () => process.exit(0)).on("close", () => process.exit(0));

// A fixed sequence, so that a run can be repeated.
let state = 12345n;
const draw = () => {
  state = (state * 1103515245n + 12345n) % 2n ** 31n;
  return Number((state >> 8n) % 1000n);
};

const refuse = (request, response) => {
  request.resume();
  request.on("end", () => {
    response.writeHead(500, { "Content-Length": 0 });
    response.end();
  });
};

// Whatever the answer would be, the client reads a 500 without a body.
const lose = (response) => {
  const { writeHead, end } = response;
  let ended = false;
  response.write = () => true;
  response.writeHead = () => response;
  response.end = () => {
    if (ended) return response;
    ended = true;
    for (const name of response.getHeaderNames()) response.removeHeader(name);
    writeHead.call(response, 500, { "Content-Length": 0 });
    return end.call(response);
  };
};

const faulty = (handler) => (request, response) => {
  // Containers are made while a test is set up.
  const drawn = request.url.includes("restype=container") && request.method === "PUT" ? 1000 : draw();
  const answer = () => {
    if (drawn < refused) return refuse(request, response);
    if (drawn < refused + lost) lose(response);
    handler(request, response);
  };
  delay ? setTimeout(answer, delay) : answer();
};

const http = require("http");
const { createServer } = http;
http.createServer = (...args) => {
  const server = createServer(...args);
  const on = server.on.bind(server);
  server.on = (event, handler) => on(event, event === "request" ? faulty(handler) : handler);
  return server;
};

if (special.includes("unconditional")) {
  const writes = require("azurite/dist/src/blob/conditions/WriteConditionalHeadersValidator");
  writes.validateWriteConditions = (_, conditions) => {
    if (conditions) conditions.ifMatch = conditions.ifNoneMatch = undefined;
  };
}

const { log } = console;
console.log = (line) => {
  const address = /successfully listens on (.*)/.exec(line);
  if (address) log(address[1]);
};
process.argv = [
  process.argv[0], "azurite-blob", "--blobHost", "127.0.0.1", "--blobPort", "0", "--silent", "--disableTelemetry",
  "--inMemoryPersistence", "--skipApiVersionCheck",
];
require("azurite/dist/src/blob/main");

// The object store that breaks the promise of conditional writes, as the negative control.
// Prints its address; ends when its standard input closes.
const fs = require("fs");
const os = require("os");
const path = require("path");
const S3rver = require("s3rver");

const directory = fs.mkdtempSync(path.join(os.tmpdir(), "s3rver-"));
const server = new S3rver({ address: "127.0.0.1", port: 0, silent: true, directory });
server.run().then(({ port }) => console.log(`http://127.0.0.1:${port}`));

const end = () => {
  fs.rmSync(directory, { recursive: true, force: true });
  process.exit(0);
};
process.stdin.on("end", end).on("close", end).resume();

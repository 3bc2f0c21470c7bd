// The npm client, unmodified, told what to do by its arguments: BASE_URL, then a JSON of the call.
// Prints one JSON a line: each chunk when it arrives, or the reply, or the error's class and fields.
import Cerebras from "@cerebras/cerebras_cloud_sdk";

const [baseURL, call] = process.argv.slice(2);
const client = new Cerebras({ apiKey: "any", baseURL, warmTCPConnection: false });
const say = (value) => process.stdout.write(JSON.stringify(value) + "\n");
try {
  const reply = await client.completions.create(JSON.parse(call));
  if (reply[Symbol.asyncIterator]) for await (const chunk of reply) say(chunk);
  else say(reply);
} catch (error) {
  say({ error: error.constructor.name, status: error.status, message: error.message });
}

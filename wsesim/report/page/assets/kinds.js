// The kinds of cycles on the critical path, in words.

const KIND_WORDS = {
  compute: "vector operations after their launch",
  launch: "launches of tasks",
  network: "messages that move: ramps, hops, turns and their length",
  wait: "messages that wait for a ramp or a link",
  reroute: "routes that change from one collective to another",
};

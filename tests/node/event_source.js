// npm's eventsource, unmodified, as a follower that is left alone: it connects again by itself, with the id that it saw last.
//
// Arguments: the control listener's host and port, and the number of events after which it ends. Prints the id of each event
// as it comes, one a line.

const { EventSource } = require("eventsource");

const [host, port, count] = [process.argv[2], process.argv[3], Number(process.argv[4])];
const source = new EventSource(`http://${host}:${port}/events?type=test.*`);
let seen = 0;

source.onmessage = ({ data, lastEventId }) => {
  const event = JSON.parse(data);
  if (event.position !== lastEventId) {
    throw new Error(`the id ${lastEventId} is not the position ${event.position}`);
  }
  console.log(event.id);
  seen += 1;
  if (seen === count) {
    source.close();
  }
};
source.onerror = (error) => {
  // It connects again by itself where the connection was lost, and not where it was refused.
  if (source.readyState === EventSource.CLOSED) {
    throw new Error(`it was refused: ${error.code} ${error.message}`);
  }
};

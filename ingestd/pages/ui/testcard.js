// A moving picture and a tone, made in the page: what a check sends.

const [WIDTH, HEIGHT] = [640, 360];
const RATE = 25;
const BARS = ["#c0c0c0", "#c0c000", "#00c0c0", "#00c000", "#c000c0", "#c00000", "#0000c0"];

/** @returns {{ stream: MediaStream, close: () => void }} */
export function testCard() {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [WIDTH, HEIGHT];
  const brush = canvas.getContext("2d");
  let count = 0;
  const draw = () => {
    if (!brush) return;
    BARS.forEach((colour, index) => {
      brush.fillStyle = colour;
      brush.fillRect((index * WIDTH) / BARS.length, 0, WIDTH / BARS.length + 1, HEIGHT);
    });
    brush.fillStyle = "#101014";
    brush.fillRect(0, HEIGHT * 0.68, WIDTH, HEIGHT * 0.32);
    brush.fillStyle = "#fff";
    brush.fillRect((count * 8) % (WIDTH - 40), HEIGHT * 0.72, 40, 40);
    brush.font = "600 44px ui-monospace, monospace";
    brush.fillText(`check ${String(count).padStart(5, "0")}`, 20, HEIGHT * 0.95);
    count += 1;
  };
  draw();
  const timer = setInterval(draw, 1000 / RATE);
  const context = new AudioContext();
  const tone = context.createOscillator();
  const quiet = context.createGain();
  quiet.gain.value = 0.1;
  const sound = context.createMediaStreamDestination();
  tone.connect(quiet).connect(sound);
  tone.start();
  const stream = new MediaStream([...canvas.captureStream(RATE).getTracks(), ...sound.stream.getTracks()]);
  return {
    stream,
    close() {
      clearInterval(timer);
      stream.getTracks().forEach((track) => track.stop());
      void context.close();
    },
  };
}

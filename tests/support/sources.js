'use strict';

// Draws the numbered picture; the first one has the number `first`. The timer lives in a worker: a page's own is throttled when it is hidden.
function numberedCanvas({ fps, first = 0 }) {
  const canvas = document.createElement('canvas');
  const pen = canvas.getContext('2d', { alpha: false });
  const audio = new AudioContext({ sampleRate: 48000 });
  const sound = audio.createMediaStreamDestination();
  const beeper = new OscillatorNode(audio, { frequency: 1000 });
  const gate = new GainNode(audio, { gain: 0 });
  beeper.connect(gate).connect(sound);
  beeper.start();
  let drawn = first, scheduled = 0;

  function bars(value, count, top, bottom) {
    const { width, height } = canvas;
    const y = Math.round(height * top), h = Math.round(height * bottom) - y, step = width / (count + 2);
    for (let i = 0; i < count + 2; i++) {
      const on = i === 0 || (i <= count && Math.floor(value / 2 ** (count - i)) % 2 === 1);
      pen.fillStyle = on ? '#fff' : '#000';
      pen.fillRect(Math.round(i * step), y, Math.round((i + 1) * step) - Math.round(i * step), h);
    }
  }

  function draw() {
    const { width, height } = canvas;
    const now = audio.currentTime;
    while (scheduled < now + 1.5) {
      scheduled += 1;
      gate.gain.setValueAtTime(0.4, scheduled);
      gate.gain.setValueAtTime(0, scheduled + 0.1);
    }
    pen.fillStyle = now >= 1 && now % 1 < 0.1 ? '#fff' : '#1a3a5a';
    pen.fillRect(0, 0, width, height);
    for (let i = 0; i < 6; i++) {
      pen.fillStyle = `hsl(${i * 60} 80% 45%)`;
      pen.beginPath();
      const x = width * (0.5 + 0.4 * Math.sin(now * (1 + i / 5) + i)), y = height * (0.3 + i / 9);
      pen.arc(x, y, height / 20, 0, 7);
      pen.fill();
    }
    bars(Date.now() % 2 ** 32, 32, 0, 0.08);
    bars(drawn % 65536, 16, 0.10, 0.16);
    drawn += 1;
  }

  const source = `setInterval(() => postMessage(0), ${1000 / fps})`;
  const timer = new Worker(URL.createObjectURL(new Blob([source], { type: 'text/javascript' })));
  timer.onmessage = draw;
  return {
    // The canvas in another size is another track; picture and sound go on where they are.
    stream({ width, height, video, audio: heard }) {
      Object.assign(canvas, { width, height });
      draw();
      const tracks = video ? canvas.captureStream(fps).getVideoTracks() : [];
      return new MediaStream([...tracks, ...(heard ? sound.stream.getAudioTracks() : [])]);
    },
    end: () => { timer.terminate(); return audio.close(); },
  };
}

function fakeCamera() {
  let stream = null;
  const end = () => stream && stream.getTracks().forEach(track => track.stop());
  return {
    async stream({ width, height, fps, video, audio }) {
      end();
      const picture = video && { width, height, frameRate: fps };
      stream = await navigator.mediaDevices.getUserMedia({ audio, video: picture });
      return stream;
    },
    end,
  };
}

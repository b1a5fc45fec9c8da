import { philox, Random } from '../../../src/nn/random';

const invalid = expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' });

function draw<T>(count: number, next: () => T): T[] {
  return Array.from({ length: count }, next);
}

/** Mean, variance, skewness and kurtosis. */
function moments(values: readonly number[]): [number, number, number, number] {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const central = (power: number) =>
    values.reduce((sum, value) => sum + (value - mean) ** power, 0) / values.length;
  const variance = central(2);
  return [mean, variance, central(3) / variance ** 1.5, central(4) / variance ** 2];
}

test.each([
  // The vectors that the generator's authors publish for philox4x32 with 10 rounds.
  [
    [0, 0, 0, 0],
    [0, 0],
    [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
  ],
  [
    [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
    [0xffffffff, 0xffffffff],
    [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
  ],
  [
    [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
    [0xa4093822, 0x299f31d0],
    [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
  ],
])('philox of %j with key %j', (counter, [key0, key1], expected) => {
  const block = Uint32Array.from(counter);
  philox(block, key0!, key1!);
  expect(Array.from(block)).toEqual(expected);
});

test('words are the blocks of seed, stream and position', () => {
  const seed = 5 * 2 ** 32 + 7;
  const stream = 3 * 2 ** 32 + 11;
  const random = new Random(seed, stream, 4 * (2 ** 32 + 9));
  const block = Uint32Array.of(9, 1, 11, 3);
  philox(block, 7, 5);
  expect(draw(4, () => random.word())).toEqual(Array.from(block));
});

test('equal seeds give equal numbers; other seeds and streams give others', () => {
  const words = (seed: number, stream?: number | string) => {
    const random = new Random(seed, stream);
    return draw(100, () => random.word());
  };
  expect(words(1)).toEqual(words(1));
  expect(words(1, 'weights')).toEqual(words(1, 'weights'));
  const others = [words(1), words(2), words(1, 1), words(1, 'weights'), words(1, 'order')];
  expect(new Set(others.flat()).size).toBe(500);
});

test('continues from a state, at any position within a block', () => {
  for (let skipped = 0; skipped < 9; skipped++) {
    const random = new Random(3, 'order');
    draw(skipped, () => random.word());
    const state = JSON.parse(JSON.stringify(random.state));
    expect(state.counter).toBe(skipped);
    const resumed = Random.from(state);
    expect(draw(10, () => resumed.normal())).toEqual(draw(10, () => random.normal()));
    expect(resumed.state).toEqual(random.state);
  }
});

test('uniform numbers have the moments of [0, 1)', () => {
  const random = new Random(1);
  const values = draw(200_000, () => random.uniform());
  expect(values.every((value) => value >= 0 && value < 1)).toBe(true);
  const [mean, variance, skewness, kurtosis] = moments(values);
  // Tolerances are four standard errors or more.
  expect(Math.abs(mean - 1 / 2)).toBeLessThan(0.003);
  expect(Math.abs(variance - 1 / 12)).toBeLessThan(0.001);
  expect(Math.abs(skewness)).toBeLessThan(0.02);
  expect(Math.abs(kurtosis - 1.8)).toBeLessThan(0.02);
});

test('normal numbers have the moments of the normal distribution, and no correlation with the next', () => {
  const random = new Random(2);
  const values = draw(200_000, () => random.normal());
  const [mean, variance, skewness, kurtosis] = moments(values);
  expect(Math.abs(mean)).toBeLessThan(0.01);
  expect(Math.abs(variance - 1)).toBeLessThan(0.013);
  expect(Math.abs(skewness)).toBeLessThan(0.025);
  expect(Math.abs(kurtosis - 3)).toBeLessThan(0.05);
  const beyond2 = values.filter((value) => Math.abs(value) > 2).length / values.length;
  expect(Math.abs(beyond2 - 0.0455)).toBeLessThan(0.002);
  const lagged = values.slice(1).reduce((sum, value, i) => sum + value * values[i]!, 0) / values.length;
  expect(Math.abs(lagged)).toBeLessThan(0.01);
});

test('integers are equally likely, also where 2^32 is no multiple of their number', () => {
  const random = new Random(3);
  const counts = new Array(7).fill(0);
  for (let i = 0; i < 70_000; i++) counts[random.integer(7)]++;
  for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(400);

  // Of 3·2^30 integers a plain remainder would give the first third twice as often as the others.
  const third = draw(30_000, () => random.integer(3 * 2 ** 30)).filter((value) => value < 2 ** 30).length;
  expect(Math.abs(third - 10_000)).toBeLessThan(400);
  expect(draw(20, () => random.integer(1))).toEqual(new Array(20).fill(0));
});

test('a shuffle keeps the elements and makes every order equally likely', () => {
  const random = new Random(4);
  const list = draw(1000, () => random.word());
  expect(random.shuffle([...list]).sort()).toEqual([...list].sort());
  expect(random.shuffle([])).toEqual([]);

  const orders = new Map<string, number>();
  for (let i = 0; i < 24_000; i++) {
    const order = random.shuffle(['a', 'b', 'c', 'd']).join('');
    orders.set(order, (orders.get(order) ?? 0) + 1);
  }
  expect(orders.size).toBe(24);
  for (const count of orders.values()) expect(Math.abs(count - 1000)).toBeLessThan(150);
});

test('refuses what is out of range', () => {
  for (const wrong of [-1, 0.5, Number.NaN, 2 ** 53]) {
    expect(() => new Random(wrong)).toThrow(invalid);
    expect(() => new Random(1, wrong)).toThrow(invalid);
    expect(() => new Random(1, 1, wrong)).toThrow(invalid);
  }
  for (const wrong of [0, -1, 1.5, Number.NaN, 2 ** 32 + 1]) {
    expect(() => new Random(1).integer(wrong)).toThrow(invalid);
  }
});

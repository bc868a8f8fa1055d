import { expect, test } from "vitest";
import { chooseDumpImage } from "../../components/import/schema/schema.ts";

const images = { image: "postgres:15", newerImage: "sectorwars/no-such-image:0", dockerHost: "tcp://127.0.0.1:1" };

test("a near source of the target's version or older is read by the target's own pg_dump", async () => {
  expect(await chooseDumpImage(images, 15, 0.3)).toBe("postgres:15");
  expect(await chooseDumpImage(images, 14, 0.3)).toBe("postgres:15");
});

test("a newer source is read by a newer pg_dump, near or far", async () => {
  expect(await chooseDumpImage(images, 17, 0.3)).toBe(images.newerImage);
  expect(await chooseDumpImage(images, 17, 40)).toBe(images.newerImage);
});

test("a far source is read by the target's own pg_dump if the newer image is not installed", async () => {
  expect(await chooseDumpImage(images, 15, 40)).toBe("postgres:15");
});

// Prompts to suggest: a model's examples; for those that draw emoji, many names, and how a prompt
// names its style.

/** English and Chinese names that the emoji models were trained on, in both styles. */
const NAMES = `
red apple=红苹果|octopus=章鱼|sunflower=向日葵|rocket=火箭|cat face=猫脸|doughnut=甜甜圈|sailboat=帆船
penguin=企鹅|strawberry=草莓|ghost=鬼|rainbow=彩虹|sushi=寿司|crown=皇冠|cactus=仙人掌
fox=狐狸|watermelon=西瓜|owl=猫头鹰|birthday cake=生日蛋糕|blue heart=蓝心|bicycle=自行车|turtle=龟
panda=熊猫|cherry blossom=樱花|guitar=吉他|ice cream=冰淇淋|butterfly=蝴蝶|castle=欧洲城堡|pineapple=菠萝
lion=狮子|four leaf clover=四叶草|tropical fish=热带鱼|mushroom=蘑菇|camera=相机|unicorn=独角兽|umbrella=伞
hedgehog=刺猬|mount fuji=富士山|jack-o-lantern=南瓜灯|gem stone=宝石|honeybee=蜜蜂|teddy bear=泰迪熊|grapes=葡萄
`;

const PROMPTS = NAMES.trim()
  .split(/[|\n]/)
  .map((pair) => pair.split("="))
  .map(([en, zh]) => ({ en, zh }));

const NAMES_AT_ONCE = 7;
const EXAMPLES_AT_ONCE = 4; // which may be sentences

/** The `page`-th few prompts, in a language, and whether there are `more`; starts over at the end. */
export function suggestionsFor(model, language, page) {
  const emoji = drawsEmoji(model);
  const all = emoji ? PROMPTS.map((prompt) => prompt[language]) : (model?.examples ?? []);
  const most = emoji ? NAMES_AT_ONCE : EXAMPLES_AT_ONCE;
  const from = (page % Math.ceil(Math.max(1, all.length) / most)) * most;
  return { prompts: all.slice(from, from + most), more: all.length > most };
}

export const STYLES = [
  { id: "noto", label: "Noto", en: ", noto style", zh: "，noto 风格" },
  { id: "fluent", label: "Fluent 3D", en: ", fluent 3d style", zh: "，fluent 3d 风格" },
];

const NAMED = /\s*[,，]\s*(noto|fluent\s*3d)\s*(?:style|风格)\s*$/i;
const CHINESE = /\p{Script=Han}/u;

/** The id of the style that a prompt ends with, or null. */
export function styleOf(prompt) {
  const found = NAMED.exec(prompt)?.[1].toLowerCase();
  return found ? (found === "noto" ? "noto" : "fluent") : null;
}

/** The prompt ending with that style, in its own language; with null, with none. */
export function withStyle(prompt, id) {
  const bare = prompt.replace(NAMED, "");
  const style = STYLES.find((candidate) => candidate.id === id);
  if (!style || !bare.trim()) return bare;
  return bare.trimEnd() + style[CHINESE.test(bare) ? "zh" : "en"];
}

/** Whether a model draws emoji in these styles, by its description. */
export const drawsEmoji = (model) => /\bemoji\b.*\bstyles\b/is.test(model?.description ?? "");

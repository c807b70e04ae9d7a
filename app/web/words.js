// The page's words in English and Chinese, and which of the two is spoken.

const EN = {
  title: "Tessera – type it, see it drawn",
  other: "中文",
  otherLabel: "中文 (Chinese)",
  skip: "Skip to the prompt",
  nav: "Page",
  docs: "API",
  themeDark: "Use the dark theme",
  themeLight: "Use the light theme",
  question: "What shall it draw?",
  placeholder: "a red apple",
  placeholderAny: "leave empty for a surprise",
  styles: "Style",
  ideas: "Try",
  moreIdeas: "Other ideas",
  seed: "Seed",
  seedRandom: "random",
  die: "Roll a seed",
  count: "Pictures",
  fine: "Fine tuning",
  model: "Model",
  steps: "Steps",
  guidance: "Guidance",
  size: "Size",
  sizeOwn: "{size} px, its own",
  sizeTimes: "{size} px",
  transparent: "Transparent",
  key: "API key",
  keyNote: "Kept in this tab only.",
  draw: "Draw",
  stop: "Stop",
  knowsEmoji:
    "It has seen about 1,650 emoji in two styles, by their English and Chinese names. " +
    "It draws those, one at a time. It cannot write words, paint scenes or photographs, " +
    "or draw what no emoji shows.",
  picture: "Picture",
  run: "Pictures of this run",
  empty: "Every picture begins as noise.",
  emptyNote: "Type a name or take an idea, then press Enter and watch.",
  promises: {
    exact: ["A seed is a picture", "The same words and seed draw the same picture, bit for bit."],
    seed: ["A seed is a picture", "The same words and seed draw the same picture again."],
    address: ["A picture is an address", "Link it, embed it, keep it in any cache."],
    stop: ["Change your mind", "Stop at any step; what is left is not drawn."],
  },
  drawing: "Drawing…",
  waiting: "Waiting for its turn",
  progress: "Step {step} of {steps}",
  noPrompt: "No prompt",
  took: "Time",
  seconds: "{n} s",
  background: "Background",
  white: "white",
  none: "none",
  download: "Download",
  copyLink: "Link",
  copyImg: "<img>",
  copyElement: "<tessera-image>",
  copyCurl: "curl",
  copy: "Copy as",
  copied: "Copied",
  notCopied: "Your browser did not let the page copy. Select and copy it here:",
  again: "Start from this",
  alike: "{n} more like it",
  remove: "Remove",
  gallery: "Your pictures",
  galleryNote: "Kept in this browser. Each is also an address.",
  clear: "Clear",
  clearAsk: "Remove all pictures from this browser? Their addresses keep working.",
  clearYes: "Remove all",
  keep: "Keep them",
  more: "Show more",
  tile: "{prompt}, seed {seed}",
  pictureAlt: "{prompt}",
  surprise: "Picture of seed {seed}",
  loading: "Loading the models",
  ready: "{model} is ready",
  away: "Not reachable",
  locked: "Needs a key",
  draining: "About to restart",
  live: "The service now",
  queue: "Waiting",
  rows: "Drawing",
  p50: "Half within",
  p95: "95 % within",
  yours: "over your last {n}",
  device: "On",
  exact: "Seed-exact",
  exactYes: "yes",
  exactNo: "no",
  saidDrawing: "Drawing {n}. Escape stops it.",
  saidDone: "Picture {i} of {n} is done.",
  saidStopped: "Stopped.",
  tryAgain: "Try again",
  tryIn: "Try again in {n} s",
  dismiss: "Dismiss",
  partName: {
    prompt: "prompt", seed: "seed", n: "number of pictures", steps: "steps",
    guidance: "guidance", size: "size", background: "background", model: "model",
  },
  wrong: {
    network: ["The service does not answer", "Check that it is running and that you are online, then try again."],
    broken: ["The connection broke off", "What was finished is kept. Draw again: the same seed gives the same picture."],
    field: ["The {field} is not one the model takes", "Change the {field}, then draw again."],
    invalid: ["The service did not accept this", "Look at the prompt and the settings, then draw again."],
    prompt_too_long: ["The prompt is too long", "Say it in fewer words: the name of one thing is best."],
    invalid_api_key: ["A key is needed to draw here", "Enter the API key that you were given. If you did, check it for typos."],
    rate_limit: ["You have drawn a lot just now", "Wait a little, then try again."],
    queue_full: ["Many people are drawing", "Your turn comes soon: try again in a moment."],
    not_ready: ["The models are still loading", "This takes a few seconds after a start. Then try again."],
    draining: ["The service is about to restart", "Try again in a few seconds."],
    deadline_exceeded: ["It took too long", "Ask for fewer pictures or fewer steps."],
    model_not_found: ["This model is not loaded any more", "Choose another model, then draw again."],
    worker_crashed: ["This picture cannot be drawn", "Change the prompt or the seed. If it goes on, tell whoever runs the service."],
    server: ["Something went wrong over there", "Try again. If it goes on, tell whoever runs the service."],
  },
};

const ZH = {
  title: "Tessera – 写下来，看它画出来",
  other: "English",
  otherLabel: "English (英文)",
  skip: "跳到输入框",
  nav: "页面",
  docs: "接口",
  themeDark: "使用深色主题",
  themeLight: "使用浅色主题",
  question: "想画什么？",
  placeholder: "红苹果",
  placeholderAny: "留空则随意发挥",
  styles: "风格",
  ideas: "试试",
  moreIdeas: "换一批",
  seed: "种子",
  seedRandom: "随机",
  die: "掷一个种子",
  count: "张数",
  fine: "微调",
  model: "模型",
  steps: "步数",
  guidance: "引导强度",
  size: "尺寸",
  sizeOwn: "{size} 像素（原生）",
  sizeTimes: "{size} 像素",
  transparent: "透明背景",
  key: "API 密钥",
  keyNote: "只保存在这个标签页中。",
  draw: "开始画",
  stop: "停止",
  knowsEmoji:
    "它看过约 1,650 个表情符号，两种风格，认得它们的中文名和英文名。" +
    "它一次画一个这样的符号；不会写字，不会画场景或照片，也画不出表情符号里没有的东西。",
  picture: "图片",
  run: "这一次的图片",
  empty: "每张图片都从噪声开始。",
  emptyNote: "输入名称或选一个建议，按回车，看它成形。",
  promises: {
    exact: ["种子就是图片", "同样的文字和种子，画出一模一样的图片，每一位都相同。"],
    seed: ["种子就是图片", "同样的文字和种子，会画出同样的图片。"],
    address: ["图片就是网址", "可以链接、嵌入，也可以缓存。"],
    stop: ["随时改主意", "任何一步都能停，剩下的就不画了。"],
  },
  drawing: "正在画……",
  waiting: "正在排队",
  progress: "第 {step} 步，共 {steps} 步",
  noPrompt: "没有提示词",
  took: "用时",
  seconds: "{n} 秒",
  background: "背景",
  white: "白色",
  none: "无",
  download: "下载",
  copyLink: "链接",
  copyImg: "<img>",
  copyElement: "<tessera-image>",
  copyCurl: "curl",
  copy: "复制为",
  copied: "已复制",
  notCopied: "浏览器不允许复制。请在这里选中并复制：",
  again: "以此为起点",
  alike: "再来 {n} 张",
  remove: "移除",
  gallery: "你的图片",
  galleryNote: "保存在此浏览器中；每张图片也是一个网址。",
  clear: "清空",
  clearAsk: "从此浏览器中移除所有图片吗？它们的网址仍然有效。",
  clearYes: "全部移除",
  keep: "保留",
  more: "显示更多",
  tile: "{prompt}，种子 {seed}",
  pictureAlt: "{prompt}",
  surprise: "种子 {seed} 的图片",
  loading: "模型加载中",
  ready: "{model} 已就绪",
  away: "无法连接",
  locked: "需要密钥",
  draining: "即将重启",
  live: "服务现状",
  queue: "排队",
  rows: "在画",
  p50: "一半在",
  p95: "95 % 在",
  yours: "你最近 {n} 次",
  device: "设备",
  exact: "种子精确",
  exactYes: "是",
  exactNo: "否",
  saidDrawing: "正在画 {n} 张。按 Esc 停止。",
  saidDone: "第 {i} 张完成，共 {n} 张。",
  saidStopped: "已停止。",
  tryAgain: "再试一次",
  tryIn: "{n} 秒后可再试",
  dismiss: "关闭",
  partName: {
    prompt: "提示词", seed: "种子", n: "张数", steps: "步数",
    guidance: "引导强度", size: "尺寸", background: "背景", model: "模型",
  },
  wrong: {
    network: ["服务没有回应", "请确认服务正在运行、网络正常，然后再试。"],
    broken: ["连接中断了", "已完成的图片都在。再画一次：同样的种子得到同样的图片。"],
    field: ["模型不接受这个{field}", "请修改{field}，然后再画。"],
    invalid: ["服务没有接受这个请求", "请检查提示词和设置，然后再画。"],
    prompt_too_long: ["提示词太长了", "用更少的字来说：写一样东西的名称最好。"],
    invalid_api_key: ["在这里画图需要密钥", "请输入发给你的 API 密钥；如已输入，请检查是否有误。"],
    rate_limit: ["你刚才画了很多", "稍等一会儿再试。"],
    queue_full: ["现在画图的人很多", "很快就轮到你：请稍后再试。"],
    not_ready: ["模型还在加载", "启动后需要几秒钟，之后再试。"],
    draining: ["服务即将重启", "请过几秒再试。"],
    deadline_exceeded: ["用时太长了", "请减少张数或步数。"],
    model_not_found: ["这个模型已不在服务中", "请选择另一个模型再画。"],
    worker_crashed: ["这张图片画不出来", "请换提示词或种子。若仍如此，请告诉维护者。"],
    server: ["服务那边出了问题", "请再试。若仍如此，请告诉维护者。"],
  },
};

const WORDS = { en: EN, zh: ZH };
const KEPT = "tessera-language";

let language = kept() ?? (navigator.language.startsWith("zh") ? "zh" : "en");

function kept() {
  try {
    const found = localStorage.getItem(KEPT);
    return found in WORDS ? found : null;
  } catch {
    return null; // storage is off
  }
}

/** The language spoken now: "en" or "zh". */
export const spoken = () => language;

/** The words for a key; `{name}` is filled in from `values`. */
export function t(key, values = {}) {
  const text = key.split(".").reduce((words, part) => words?.[part], WORDS[language]);
  if (typeof text !== "string") return text;
  return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** Speaks the other language from now on. The caller renders what it made itself again. */
export function switchLanguage() {
  language = language === "en" ? "zh" : "en";
  try {
    localStorage.setItem(KEPT, language);
  } catch {
    // only this visit, then
  }
  speak();
}

/** Puts words into everything that names them: data-t, data-t-label, data-t-placeholder. */
export function speak(root = document) {
  document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";
  document.title = t("title");
  for (const node of root.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of root.querySelectorAll("[data-t-label]")) {
    node.setAttribute("aria-label", t(node.dataset.tLabel));
    if (node.matches("button")) node.title = t(node.dataset.tLabel);
  }
  for (const node of root.querySelectorAll("[data-t-placeholder]")) {
    node.placeholder = t(node.dataset.tPlaceholder);
  }
}

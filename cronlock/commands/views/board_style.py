"""How the board looks: light and dark, on a desk and on a phone."""

#: Each color of text stands out from its ground by 4.5 to 1 at least, of marks by 3 to 1 (WCAG 2.1, AA).
STYLE = """
:root{color-scheme:light dark;--ground:#f6f7f9;--card:#fff;--text:#1c2330;--soft:#566074;--line:#d9dee7;
--ok:#1f7a49;--run:#1558d6;--bad:#c62828;--odd:#a35c00;--idle:#6b7688;--badground:#fdecea;--oddground:#fff3dc}
@media(prefers-color-scheme:dark){:root{--ground:#12161d;--card:#1a2029;--text:#e6eaf1;--soft:#a3aebf;--line:#303947;
--ok:#4cc38a;--run:#6cb0ff;--bad:#ff8a80;--odd:#f5b95f;--idle:#8b97a9;--badground:#3a1d1f;--oddground:#382a12}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--text);font:15px/1.45 system-ui,-apple-system,"Segoe UI",sans-serif}
header,main{max-width:76rem;margin:0 auto;padding:1rem 1rem 0}main{padding-bottom:2rem}
h1{font-size:1.35rem;margin:0}h2{font-size:1.05rem;margin:1.4rem 0 .5rem}main>h2:first-child{margin-top:.2rem}
.hidden{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
p{margin:.2rem 0}.soft{color:var(--soft)}
h1,h2,p,td,dd,li,summary,.name{overflow-wrap:anywhere}
.counts{display:flex;flex-wrap:wrap;gap:.5rem;list-style:none;margin:.8rem 0 0;padding:0}
.counts li,.badge{border:1px solid currentColor;border-radius:1rem;padding:.05rem .6rem;font-size:.85rem;
font-weight:600;white-space:nowrap;display:inline-block}
.lapsed,.failed,.late,.BAD{color:var(--bad)}.running{color:var(--run)}.paused,.held,.WARNING{color:var(--odd)}
.free,.NOTE{color:var(--soft)}.OK{color:var(--ok)}
.card{background:var(--card);border:1px solid var(--line);border-radius:.6rem}
.keys{list-style:none;margin:0;padding:0}
.keys>li{display:grid;grid-template-columns:minmax(0,1fr) 6.5rem minmax(0,17rem) minmax(0,10rem) 160px;gap:.2rem 1rem;
align-items:center;padding:.5rem .8rem}
.keys>li+li{border-top:1px solid var(--line)}
.name{font-weight:600;font-size:1rem;margin:0}.facts{font-size:.9rem}
.note{grid-column:1/-1;font-size:.9rem;padding:.3rem .6rem;border-radius:.4rem;background:var(--oddground)}
.bars{display:block;width:160px;height:32px}
.ok{fill:var(--ok)}.bad{fill:var(--bad)}.odd{fill:var(--odd)}.now{fill:var(--run)}.back{fill:var(--badground)}
.oddback{fill:var(--oddground)}
details{grid-column:1/-1;position:relative}summary{cursor:pointer;color:var(--soft);font-size:.85rem;padding:.15rem 0}
:focus-visible{outline:3px solid var(--run);outline-offset:2px;border-radius:.2rem}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.85rem;width:100%}
th,td{text-align:left;padding:.2rem .7rem .2rem 0;vertical-align:top}th{color:var(--soft);font-weight:600}
.lines{max-height:32rem;overflow:auto;padding:.5rem .8rem}
.lines>div{display:grid;grid-template-columns:minmax(5rem,14rem) minmax(0,1fr);gap:.8rem;align-items:center;
font-size:.85rem;min-height:1.35rem}
.lines span{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.lines svg{display:block;width:100%;height:14px;
background:linear-gradient(var(--line),var(--line)) center/100% 1px no-repeat}
.lines svg.load{height:30px;background:none}
.axis{position:sticky;top:-.5rem;background:var(--card);color:var(--soft);z-index:1}
.axis p{display:flex;justify-content:space-between;margin:0}
.mark{fill:none;stroke:var(--text);stroke-width:1.5;vector-effect:non-scaling-stroke}
.key{display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;font-size:.85rem;color:var(--soft);margin:.5rem 0}
.key svg{width:12px;height:12px;vertical-align:-1px;margin-right:.35rem}
dl{margin:0;padding:.5rem .8rem}dt{font-weight:600}dd{margin:0 0 .5rem}
@media(max-width:48rem){.keys>li{grid-template-columns:minmax(0,1fr) auto;align-items:start}
.facts{grid-column:1/-1}.bars{grid-column:1/-1;width:100%;height:36px}.lines>div{grid-template-columns:1fr;gap:0}}
@media(prefers-contrast:more){:root{--line:currentColor}}
"""
